"""Every command that a page shows is one: its words are what the programs read.

The commands of docs/extend and docs/measure.md are run too, in tests of their own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy  # noqa: F401 - pytester forgets what is imported in a test
import pytest

from pytest_mlperf.commands.main import list_commands
from pytest_mlperf.commands.main import make_parser
from pytest_mlperf.plugin.options import read_options
from tests.support.source import ROOT

PAGES = sorted(
    {
        *(page for page in ROOT.glob("*.md") if page.name != "CHANGELOG.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "systems/README.md",
        ROOT / "reports/README.md",
    }
)
FENCE = re.compile(r"^[ \t]*```([^\n]*)\n(.*?)^[ \t]*```$", re.MULTILINE | re.DOTALL)
PROMPT = re.compile(r"^\s*(?:[$-]\s+)?(?:run:\s+)?(?:[A-Z_]+=\S+\s+)*")
PROGRAMS = ("pytest", "pytest-mlperf", "tox", "python -m")
FREE = {"FORMAT": "csv", "D": "closed", "vX.Y": "v6.1", "N": "1"}
"""Placeholder -> a value that the program takes."""
OWN = {"SAVED", "TREE", "test_mine.py", "test_both.py"}
"""Places that a page tells the reader to make."""


def find_lines(page: Path) -> Iterator[str]:
    """Yield the lines of a page's blocks, and what stands between back quotes."""
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        yield from re.sub(r"\\\n", " ", fence[2]).splitlines()
    for inline in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        yield " ".join(inline.split())


def find_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command, a choice by its first branch."""
    for line in find_lines(page):
        command = PROMPT.sub("", line).removeprefix(".venv/bin/").partition("  #")[0]
        if not command.startswith(tuple(f"{name} " for name in PROGRAMS)):
            continue
        command = re.sub(r"\[([^][|]*)\|[^][]*\]", r"\1", command)
        command = re.sub(r"\[(--[^][]*)\]", r"\1", command)
        words = shlex.split(command, comments=True)
        if ":" in words[0] or any(word in ("process", "COMMAND") for word in words):
            continue  # a picture's caption
        yield [FREE.get(word, word) for word in words]


COMMANDS = [
    pytest.param(words, id=f"{page.relative_to(ROOT)}: {' '.join(words)}")
    for page in PAGES
    for words in find_commands(page)
    if not words[0].endswith(",")
]


def test_the_pages_have_commands() -> None:
    """The search has not gone blind: each program is shown, and most pages have one."""
    shown = {param.values[0][0] for param in COMMANDS}  # type: ignore[index]

    assert shown == {name.split()[0] for name in PROGRAMS}
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_read_by_its_program(
    words: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No unknown option, no value that is none, no file that is not there."""
    monkeypatch.delenv("MLPERF_SCRATCH_PATH", raising=False)
    program, *rest = words
    if program == "pytest":
        check_pytest(rest, pytester)
    elif program == "pytest-mlperf":
        check_own(rest)
    elif program == "tox":
        check_tox(rest)
    else:
        check_module(rest[1])


def check_pytest(words: list[str], pytester: pytest.Pytester) -> None:
    """As pytest does it, other harnesses' spellings among the options too."""
    config = pytester.parseconfig(*words)
    read_options(config)
    places = {place.partition("::")[0] for place in config.args} - OWN
    places = {place for place in places if Path(place) != pytester.path}

    if not config.getoption("pyargs"):
        assert [place for place in places if not (ROOT / place).exists()] == []


def check_own(words: list[str]) -> None:
    """A command that is named without its arguments has a help page."""
    assert words[0] in list_commands()
    parser, _ = make_parser(words[:1])
    if len(words) > 2:
        parser.parse_args([word.removesuffix("...") for word in words])
        return
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([*words, "--help"])
    assert caught.value.code == 0


def check_tox(words: list[str]) -> None:
    text = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert words[0] == "-e"
    known = set(re.findall(r"^\[testenv:([\w-]+)\]", text, re.MULTILINE))
    known |= {f"py3{minor}" for minor in ("11", "12", "13")}

    assert words[1] in known


def check_module(name: str) -> None:
    """Of this project; a server of others is not installed here."""
    if name.partition(".")[0] in ("pytest_mlperf", "perf"):
        path = ROOT / f"{name.replace('.', '/')}.py"
        assert path.is_file() or (path.with_suffix("") / "__main__.py").is_file()
