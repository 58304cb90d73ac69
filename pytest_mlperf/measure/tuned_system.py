"""The best combination of a grid as a system file, with where it comes from."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system_schema import TUNING
from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.journal import GridRun

TEXTS = ("precision",)
"""Settings whose value is a word, not a number."""


def write_system_file(
    path: Path, system: System, grid: Grid, best: GridRun, cell: Cell
) -> list[str]:
    """Write a system file of the best settings, and return the options that a system
    file does not have.

    ``OSError`` where it exists, or cannot be written.
    """
    settings: Point = tuple({**grid.options, **dict(best.point)}.items())
    model = f'"{cell.model}"' if "." in cell.model else cell.model
    day = datetime.now().astimezone().isoformat(timespec="seconds")
    lines = [
        f"# By pytest-mlperf {version('pytest-mlperf')} tune grid",
        f"# on {system.name}, {day}:",
        f"# the best of {len(grid.points)} combinations in runs of {best.seconds:g} s,",
        f"# {best.figure}; others used {best.others_share:.0%} of the CPUs.",
        f"# Grid sha256 {grid.digest}",
        f"# Engine build {best.build}",
        "",
        "[match]",
        f"arch = {json.dumps(system.arch)}",
        f"cpu = {json.dumps(_escape(system.cpu_model))}",
        f"gpu_count = {len(system.gpus)}",
        "",
        f"[tuning.{model}.{cell.scenario.slug}.engine.{cell.engine}]",
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
