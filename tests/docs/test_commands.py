"""Every command that a page shows is one, and is run somewhere or says why not.

The options and values of each are read by its own program; what pytest's commands
select is collected, in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.commands.machine import find_benchmark
from pytest_mlperf.commands.main import list_commands
from pytest_mlperf.commands.main import make_parser
from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from tests.support.page_commands import PAGES
from tests.support.page_commands import PROGRAMS
from tests.support.page_commands import Shown
from tests.support.page_commands import find_commands
from tests.support.page_commands import find_others
from tests.support.source import ROOT

RUN = {
    "docs/extend/": "tests/docs/test_extend.py",
    "docs/measure.md": "tests/docs/test_measure.py",
    "pytest-mlperf machine": "tests/commands/test_machine.py",
    "pytest-mlperf explain": "tests/commands/test_explain.py",
    "pytest-mlperf report": "tests/commands/test_report.py",
    "pytest-mlperf submit": "tests/commands/test_submit.py",
    "pytest-mlperf data": "tests/commands/test_data.py",
    "pytest-mlperf triton": "tests/commands/test_triton.py",
    "pytest-mlperf tune": "tests/commands/test_tune.py",
    "pytest-mlperf serve": "tests/services/kserve/test_network.py",
    "pytest-mlperf power": "tests/power/test_serve.py",
    "python -m pytest_mlperf.run.child": "tests/runner/test_runner.py",
    "python -m pytest_mlperf.services.local": "tests/services/local/test_triton.py",
    "--pyargs": "tox.ini",
}
"""The page or the beginning of a command -> the tests that run such ones."""
ONLY_READ = {
    "tox": "makes an environment and takes minutes; CI runs the default ones",
    "pip": "needs an index of packages; tox installs each extra that CI uses",
    "pytest tests": "this is it",
    "pytest --help": "tests/plugin has its groups",
    "pytest --version": "pytest's own",
    "--fast": "measures for a minute or more an item",
    "--mlperf-engine torch": "needs a GPU; tests/gpu runs there",
    "--mlperf-engine tensorrt": "needs a GPU",
    "tests/gpu": "needs a GPU",
    "--mlperf-scratch": "needs official files",
    "--mlperf-endpoint": "needs a server of the reader's",
    "--mlperf-triton": "needs a server of the reader's",
    "--mlperf-power": "needs a power meter",
    "--mlperf-submission": "measures for hours",
    "--mlperf-rehearsal": "takes minutes; tests/submission rehearses one cell",
    "--mlperf-tree": "needs a tree; tests/submission makes them",
    "--mlperf-compliance": "measures for ten minutes an item",
    "--mlperf-find-peak": "measures for an hour",
    "--mlperf-retarget": "measures for ten minutes an item",
    "--mlperf-duration": "tests/measure and tests/plugin run such ones",
    "pytest perf": "measures speed, which needs a quiet machine",
    "python -m perf": "measures speed, which needs a quiet machine",
    "--benchmark-only": "docs/measure.md runs such ones",
    "suites/test_bare.py": "docs/measure.md runs such ones",
    "pytest suites": "ten minutes an item",
    "pytest -m": "ten minutes an item",
    "pytest --lf": "ten minutes an item",
    "pytest --setup-only": "docs/measure.md runs one",
    "pytest --collect-only": "collected below",
    "python -m pytest_mlperf.benchmarks": "needs official weights",
    "python -m scripts.pair_power_dev": "needs a clone of others'",
    "python -m sglang": "needs a GPU",
}
"""What a command has in it -> why it is read and collected, and not run."""
OTHERS = {
    "cd", "curl", "done", "for", "git", "kubectl", "printf", "python", "python3", "ray",
    "srun", "until", "urls=$(for", "vllm",
}  # fmt: skip
"""Programs that are not ours, in what a page tells the reader to type."""
MADE = ("test_both.py", "one.toml")
"""Files that a page describes and the reader writes."""

COMMANDS = [command for page in PAGES for command in find_commands(page)]


def has(words: tuple[str, ...], part: str) -> bool:
    """Return whether a command begins with the words of ``part`` or has them in it."""
    line = " ".join(words)
    return line.startswith(f"{part} ") or line == part or f" {part}" in f" {line}"


def list_selections() -> Iterator[Shown]:
    """Yield each of pytest's commands once that selects items of this clone."""
    known = set()
    for command in COMMANDS:
        program, *rest = command.words
        if program != "pytest" or command.words in known or is_run(command):
            continue
        known.add(command.words)
        own = {"tests", "--help", "--version"} & set(rest)
        if not own and not any(name in " ".join(rest) for name in MADE):
            yield command


def is_run(command: Shown) -> bool:
    return any(command.page.startswith(key) or has(command.words, key) for key in RUN)


@pytest.fixture(scope="module")
def collected() -> dict[tuple[str, ...], tuple[int, int, str]]:
    """Exit status, number of items and output of each selection, by its words."""
    selections = [command.words for command in list_selections()]
    # A reader is no worker of xdist; pytest-benchmark would take them for one. And
    # the reader has it: what tests leave out of their sessions is not left out here.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_XDIST", "PYTEST_ADDOPTS"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.collect_commands"],
        input=json.dumps([words[1:] for words in selections]),
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(selections, map(tuple, json.loads(done.stdout)), strict=True))


def test_the_pages_have_commands() -> None:
    """The search has not gone blind: each program is shown, and often."""
    shown = {" ".join(words[: 1 + (words[0] == "python")]) for _, words in COMMANDS}

    assert shown == set(PROGRAMS)
    assert len(COMMANDS) > 200
    assert len(list(list_selections())) > 60


def test_every_command_is_run_or_says_why_not() -> None:
    """A new one is put into a list; a row that no command needs is taken out."""
    unknown = [
        str(command)
        for command in COMMANDS
        if not is_run(command) and not any(has(command.words, k) for k in ONLY_READ)
    ]
    idle = [
        key
        for key in (*RUN, *ONLY_READ)
        if not any(c.page.startswith(key) or has(c.words, key) for c in COMMANDS)
    ]

    assert unknown == []
    assert idle == []
    assert [name for name in RUN.values() if not (ROOT / name).is_file()] == []


def test_other_programs_are_known() -> None:
    """A misspelt one of ours, too, would be another."""
    others = [command for page in PAGES for command in find_others(page)]

    assert [str(c) for c in others if c.words[0] not in OTHERS] == []


@pytest.mark.parametrize("command", list(list_selections()), ids=str)
def test_a_selection_selects(
    command: Shown, collected: dict[tuple[str, ...], tuple[int, int, str]]
) -> None:
    """Its options and their values are taken, and there is an item of that name."""
    code, items, printed = collected[command.words]
    missing = re.search(r"'(\w+)' is not an installed engine", printed)
    if missing and missing[1] in (ROOT / "pyproject.toml").read_text():
        pytest.skip(f"the engine {missing[1]} is not installed")

    assert code == 0, printed
    assert items > 0


OWN = [c for c in COMMANDS if c.words[0] == "pytest-mlperf"]


@pytest.mark.parametrize("command", OWN, ids=str)
def test_a_command_of_ours_is_read(command: Shown) -> None:
    """A command that is named without its arguments has a help page."""
    words = [word.removesuffix("...") for word in command.words[1:]]
    assert words[0] in list_commands()
    parser, _ = make_parser(words[:1])
    if len(words) < 3:
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([*words, "--help"])
        assert caught.value.code == 0
        return
    given = vars(parser.parse_args(words))
    names = given.get("benchmarks") or given.get("benchmark") or given.get("proof")
    for name in [names] if isinstance(names, str) else names or []:
        find_benchmark(name)
    for name in given.get("cell") or []:
        find_cell(read_run_options(argparse.Namespace()), name)


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.words[0] in ("tox", "pip", "python")], ids=str
)
def test_an_environment_an_extra_a_module_is_there(command: Shown) -> None:
    """And the module's text has the options."""
    program, *words = command.words
    if program == "tox":
        text = (ROOT / "tox.ini").read_text(encoding="utf-8")
        known = {*re.findall(r"^\[testenv:([\w-]+)\]", text, re.M), "py311"}
        assert set(words[1:2]) <= known
    elif program == "pip":
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        extras = re.findall(r"(?:pytest-mlperf|\.)\[(.*?)\]", " ".join(words))
        known = set(declared["project"]["optional-dependencies"])
        assert {one for text in extras for one in text.split(",")} <= known
    elif words[1].partition(".")[0] != "sglang":  # others' server
        spec = importlib.util.find_spec(words[1])
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        flags = [word for word in words if word.startswith("--")]
        assert [flag for flag in flags if f'"{flag}"' not in text] == []
