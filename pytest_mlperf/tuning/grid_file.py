"""A grid as the user writes it: which options of a cell take which values."""

from __future__ import annotations

import hashlib
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

Point = tuple[tuple[str, str], ...]
"""One combination: (option, text) pairs, in the order of the file."""
KEYS = {"cell", "seconds", "keep", "options", "grid"}


@dataclass(frozen=True, slots=True)
class Grid:
    """The combinations of one cell, and how they are tried."""

    cell: str
    points: tuple[Point, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    """Of every run: name -> text."""
    seconds: float = 2.0
    """Of a first run."""
    keep: int = 3
    """One candidate in so many goes on, to runs that are so many times as long."""
    digest: str = ""
    """Of the file's text."""

    @classmethod
    def read(cls, path: Path) -> Grid:
        """Read a grid; ``ValueError`` says what is wrong, ``OSError`` of the file."""
        text = path.read_text(encoding="utf-8")
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path}: {error}") from None
        if unknown := set(values) - KEYS:
            raise ValueError(
                f"{path}: {', '.join(sorted(unknown))}, but should be among "
                f"{', '.join(sorted(KEYS))}"
            )
        lists = values.get("grid")
        if not isinstance(lists, dict) or not lists:
            raise ValueError(f"{path}: no [grid]; it should list options' values")
        axes = [_read_axis(path, name, one) for name, one in lists.items()]
        cell, seconds = values.get("cell"), values.get("seconds", 2.0)
        keep = values.get("keep", 3)
        if not isinstance(cell, str):
            raise ValueError(f"{path}: cell = {cell!r}, but should be an item's id")
        if not isinstance(seconds, int | float) or seconds <= 0:
            raise ValueError(f"{path}: seconds = {seconds!r}, but should be above 0")
        if not isinstance(keep, int) or keep < 2:
            raise ValueError(f"{path}: keep = {keep!r}, but should be 2 or more")
        options = {
            name: _to_text(one) for name, one in values.get("options", {}).items()
        }
        digest = hashlib.sha256(text.encode()).hexdigest()
        points = tuple(itertools.product(*axes))
        return cls(cell, points, options, float(seconds), keep, digest)


def _read_axis(path: Path, name: str, values: Any) -> list[tuple[str, str]]:
    if not isinstance(values, list) or not values:
        raise ValueError(
            f"{path}: [grid] {name} = {values!r}, but should be a list of values"
        )
    return [(name, text) for text in dict.fromkeys(map(_to_text, values))]


def _to_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def format_point(point: Point) -> str:
    """Return a combination as it is typed: ``streams=2 batch=8``."""
    return " ".join(f"{name}={text}" for name, text in point)
