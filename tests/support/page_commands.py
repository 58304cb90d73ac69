"""The commands that the pages of the clone show, one by one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
PROMPT = re.compile(r"^\s*(?:[$-]\s+)?(?:run:\s+)?(?:sudo\s+)?(?:[A-Z_]+=\S+\s+)*")
PROGRAMS = ("pytest", "pytest-mlperf", "tox", "pip", "python -m")
OPTIONAL = re.compile(r"\[(--[^][]*)\]")
CHOICE = re.compile(r"\[([^][|]*)\|[^][]*\]")
FREE = {
    "FORMAT": "csv", "D": "closed", "vX.Y": "v6.1", "N": "1", "OLD": "old",
    "NEW…": "new", "PATH...": "path", "$urls": "http://node:8000",
}  # fmt: skip
"""Placeholder -> a value that the program takes."""


class Shown(NamedTuple):
    """A command and its page, as a path below the root."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def find_commands(page: Path) -> Iterator[Shown]:
    """Yield the commands of our programs: of blocks, and between back quotes.

    A choice is read by its first branch. A name alone (`pytest`) is no command.
    """
    name = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    lines = [line for _, body in find_blocks(text) for line in body]
    lines += [
        " ".join(inline.split())
        for inline in re.findall(r"`([^`]+)`", FENCE.sub("", text))
    ]
    for line in lines:
        for words in split_commands(line):
            if is_ours(words):
                yield Shown(name, words)


def find_others(page: Path) -> Iterator[Shown]:
    """Yield what blocks of commands have of other programs.

    A batch script is shell, not commands: its lines are passed over.
    """
    for language, body in find_blocks(page.read_text(encoding="utf-8")):
        if language not in ("sh", "console") or body[0].startswith("#!"):
            continue
        prompt = "$ " if any(line.startswith("$ ") for line in body) else ""
        for line in body:
            for words in split_commands(line) if line.startswith(prompt) else ():
                if not is_ours(words):
                    yield Shown(str(page.relative_to(ROOT)), words)


def find_blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the language and the lines of each block; a continued line is one."""
    for fence in FENCE.finditer(text):
        body = re.sub(r"\\\n", " ", fence[2])
        yield fence[1].partition(" ")[0], body.splitlines() or [""]


def split_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of a line's commands: those of ``a && b`` are two."""
    line = PROMPT.sub("", line).partition("  #")[0]
    line = OPTIONAL.sub(r"\1", CHOICE.sub(r"\1", line))
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # a table or a sentence, with an apostrophe
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        command, words = words[:end], words[end + 1 :]
        if command:
            command[0] = command[0].removeprefix(".venv/bin/")
            filled = (word.replace("HOST:PORT", "node:8000") for word in command)
            yield tuple(FREE.get(word, word) for word in filled)


def is_ours(words: tuple[str, ...]) -> bool:
    """Return whether it is a command of a program that is checked, not its name."""
    program = " ".join(words[:2]) if words[0] == "python" else words[0]
    is_caption = words[-1].endswith(",") or {"process", "COMMAND", "or"} & {*words[1:2]}
    alone = len(words) == 1 and program != "tox"
    return program in PROGRAMS and not (is_caption or alone)
