"""What a grid search has measured so far, on disk: a killed search goes on from there.

A line a run, written whole and flushed before the next one begins; a line that a kill
tore is not counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.tuning.grid_file import Point


@dataclass(frozen=True, slots=True)
class GridRun:
    """One run of one combination."""

    point: Point
    seconds: float
    """Its minimum duration."""
    score: float | None = None
    """More is better; None where it could not run."""
    figure: str = ""
    """In words, or why there is none."""
    build: str = ""
    others_share: float = 0.0

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> GridRun:
        """Return the run that JSON has made of ``asdict``."""
        point = tuple((name, text) for name, text in values["point"])
        return cls(**{**values, "point": point})


@dataclass(slots=True)
class Journal:
    """The runs of one grid on one system."""

    path: Path
    header: dict[str, Any]
    """What the runs belong to: the grid's digest, system, cell."""
    runs: dict[tuple[Point, float], GridRun] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, header: dict[str, Any]) -> Journal:
        """Return the journal with the runs that are in it.

        ``ValueError`` for the journal of another grid or system.
        """
        header = json.loads(json.dumps(header))  # as it is read back
        journal = cls(path, header)
        lines = path.read_text("utf-8").splitlines(True) if path.exists() else []
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        if not whole:
            journal._write(header, "w")
            return journal
        if whole[0] != header:
            raise ValueError(
                f"{path} is the journal of another grid or machine; give --again to "
                "begin anew, or another name to the grid's file"
            )
        for values in whole[1:]:
            run = GridRun.from_values(values)
            journal.runs[run.point, run.seconds] = run
        if lines and not lines[-1].endswith("\n"):
            text = "".join(lines[:-1])
            path.write_text(text, encoding="utf-8")
        return journal

    @property
    def digest(self) -> str:
        """Name what the runs belong to, in a storage that has other searches too."""
        text = json.dumps(self.header, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, point: Point, seconds: float) -> GridRun | None:
        """Return a run that is done."""
        return self.runs.get((point, seconds))

    def add(self, run: GridRun) -> None:
        """Note a run that has ended."""
        self.runs[run.point, run.seconds] = run
        self._write(asdict(run), "a")

    def _write(self, values: dict[str, Any], mode: str) -> None:
        with self.path.open(mode, encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
