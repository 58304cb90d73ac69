"""Settings that a search found as a system file, with where they come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system_schema import TUNING
from pytest_mlperf.tuning.grid_file import Point

TEXTS = ("precision",)
"""Settings whose value is a word, not a number."""


def write_system_file(
    path: Path,
    system: System,
    cell: Cell,
    how: Sequence[str],
    settings: Point,
    scenario: str = "",
) -> list[str]:
    """Write a system file of settings, and return the options that a system file does
    not have.

    ``how``: the command that found them, and what it found, a line each. Without a
    ``scenario`` the settings are those of the cell's model in all of them. ``OSError``
    where the file exists, or cannot be written.
    """
    model = f'"{cell.model}"' if "." in cell.model else cell.model
    table = f"tuning.{model}{scenario and '.'}{scenario}.engine.{cell.engine}"
    day = datetime.now().astimezone().isoformat(timespec="seconds")
    lines = [
        f"# By pytest-mlperf {version('pytest-mlperf')} {how[0]}",
        f"# on {system.name}, {day}:",
        *(f"# {line}" for line in how[1:]),
        "",
        "[match]",
        f"arch = {json.dumps(system.arch)}",
        f"cpu = {json.dumps(_escape(system.cpu_model))}",
        f"gpu_count = {len(system.gpus)}",
        "",
        f"[{table}]",
    ]
    lines += [
        f"{name} = {json.dumps(text) if name in TEXTS else text}"
        for name, text in settings
        if name in TUNING
    ]
    with path.open("x", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    return [name for name, _ in settings if name not in TUNING]


def _escape(text: str) -> str:
    """Return a regular expression of a text, as readable as that can be."""
    return "".join(f"[{one}]" if one in "()+*?.[]{}|^$" else one for one in text)
