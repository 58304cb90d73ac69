"""What a page of docs/ shows: files, commands and their output, run as a user would.

A fence with a title is a file: ```` ```python title="my_engine.py" ````. A fence ``sh``
holds commands, and a fence ``text`` behind it what they print: ``…`` stands for
anything, and blanks for one another.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import pytest

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import results

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_mlperf"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
LIMIT_S = 600


@dataclass(slots=True)
class Command:
    """A command of a page, and what the page says that it prints."""

    line: str
    prints: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Page:
    """One page's files and commands."""

    files: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)


def read_page(name: str) -> Page:
    """Return what a page below docs/ shows."""
    page = Page()
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for language, title, body in FENCE.findall(text):
        if title:
            page.files[title] = page.files.get(title, "") + body
        elif language == "sh":
            page.commands += map(Command, body.splitlines())
        elif language == "text":
            page.commands[-1].prints = body.splitlines()
    return page


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command that has ended."""

    code: int
    text: str
    home: Path

    @property
    def session(self) -> SessionResults:
        """The results of the newest session."""
        folder = self.home / "reports" / "latest"
        return results.read_results(folder / results.FILE)

    @property
    def records(self) -> tuple[Record, ...]:
        return self.session.records

    @property
    def verdicts(self) -> list[Verdict]:
        return [one.verdict for one in self.records if one.verdict]

    def expect(self, lines: Sequence[str]) -> None:
        """Fail unless the lines were printed, in any order."""
        patterns = [_squash(line) for line in lines]
        patterns = [p.replace("[", "[[]").replace("…", "*") for p in patterns]
        printed = [_squash(line) for line in self.text.splitlines()]
        pytest.LineMatcher(printed).fnmatch_lines_random(patterns)


def _squash(line: str) -> str:
    return " ".join(line.split())


@dataclass(frozen=True, slots=True)
class Project:
    """A user's folder, with the packages of pages installed beside it."""

    home: Path
    """The working directory."""
    site: Path
    """Where packages are installed: modules and their entry points."""

    def install(self, page: Page) -> None:
        """Install the package that a page shows, as pip does for entry points."""
        declared = tomllib.loads(page.files["pyproject.toml"])["project"]
        for name, text in page.files.items():
            if name.endswith(".py"):
                (self.site / name).write_text(text, encoding="utf-8")
        metadata = self.site / f"{declared['name'].replace('-', '_')}-1.0.dist-info"
        metadata.mkdir()
        title = f"Metadata-Version: 2.1\nName: {declared['name']}\nVersion: 1.0\n"
        (metadata / "METADATA").write_text(title)
        points = "\n".join(_entry_points(declared["entry-points"]))
        (metadata / "entry_points.txt").write_text(points)

    def write(self, page: Page, *names: str) -> None:
        """Write files of a page into the working directory."""
        for name in names:
            (self.home / name).write_text(page.files[name], encoding="utf-8")

    def run(
        self, command: str, *more: str, first_on_path: Path | None = None
    ) -> Outcome:
        """Run ``pytest …`` or ``python …`` in the working directory."""
        program, *words = shlex.split(command, comments=True)
        suites = str(ROOT / "suites")
        words = [re.sub(r"^suites(?=/|$)", suites, word) for word in words]
        start = {"pytest": ["-m", "pytest"], "python": []}[program]
        reports = [f"--mlperf-reports={self.home / 'reports'}"] * (program == "pytest")
        path = [first_on_path] if first_on_path else []
        # The session is no worker of the tests' own xdist.
        inherited = {k: v for k, v in os.environ.items() if "XDIST" not in k}
        if "--benchmark" in command:
            inherited.pop("PYTEST_ADDOPTS", None)  # which leaves that plugin out
        ended = subprocess.run(
            [sys.executable, *start, *words, *reports, *more],
            cwd=self.home,
            env={
                **inherited,
                "PYTHONPATH": os.pathsep.join(map(str, [*path, self.site, ROOT])),
                "COLUMNS": "100",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        print(f"$ {command}\n{ended.stdout}")  # noqa: T201 - pytest shows it on failure
        return Outcome(ended.returncode, ended.stdout, self.home)


def copy_package(folder: Path, *, as_wheel: bool = False) -> Path:
    """Return a folder with a copy of the package, in a clone's or a wheel's layout."""
    package = folder / "pytest_mlperf"
    ignored = shutil.ignore_patterns("embedded", "__pycache__")
    shutil.copytree(PACKAGE, package, ignore=ignored)
    (package / "embedded").symlink_to(PACKAGE / "embedded")
    for name in ("fixtures", "suites", "systems"):
        place = package if as_wheel else folder
        (place / name).symlink_to(ROOT / name)
    return folder


def _entry_points(groups: dict[str, dict[str, str]]) -> Iterator[str]:
    for group, names in groups.items():
        yield f"[{group}]"
        yield from (f"{name} = {where}" for name, where in names.items())
