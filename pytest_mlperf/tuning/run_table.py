"""The runs of a grid as CSV, for a spreadsheet or a notebook."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from pytest_mlperf.tuning.journal import GridRun

COLUMNS = ("seconds", "score", "figure", "others_share", "build")
"""What a run has beside its settings: its minimum duration, what it is ranked by (more
is better; empty where it could not run), the same in words, the share of the CPUs that
other programs used (0 to 1), and the hash of the engine's build."""


def write_runs(path: Path, runs: Iterable[GridRun]) -> None:
    """Write a line a run, the settings first; raises ``OSError``."""
    found = list(runs)
    names = list(dict.fromkeys(name for run in found for name, _ in run.point))
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([*names, *COLUMNS])
        for run in found:
            values = dict(run.point)
            figures = [getattr(run, name) for name in COLUMNS]
            table.writerow([*(values.get(name, "") for name in names), *figures])
