"""What is wrong with a submission tree: where, what it should be, what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a tree cannot be submitted with."""

    path: str
    """Of the file or folder, below the tree's root."""
    rule: str
    """Short name of the rule: ``system_fields``."""
    found: str
    required: str
    remedy: str
    line: int = 0

    @property
    def where(self) -> str:
        """``closed/ACME/systems/box.json``, with its line where one is to blame."""
        path = escape_unprintable(self.path)
        return f"{path}:{self.line}" if self.line else path

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"

    @property
    def text(self) -> str:
        """What is wrong and what to do, without the place."""
        text = f"{self.rule}: found {self.found}, should be {self.required}"
        return escape_unprintable(f"{text}: {self.remedy}")


def escape_unprintable(text: str) -> str:
    """Return a text that any terminal can show: odd characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


Fault = Callable[[str, str, str, str], Problem]
"""From a path, what was found, what it should be and the remedy to a problem."""


def make_fault(name: str) -> Fault:
    """Return what makes problems of one rule."""

    def fault(path: str, found: str, required: str, remedy: str) -> Problem:
        return Problem(path, name, found, required, remedy)

    return fault
