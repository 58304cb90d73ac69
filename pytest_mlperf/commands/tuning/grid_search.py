"""A grid's search: what its runs are made with, and the journal that they are in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.measuring import Measuring
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.grid import GridRuns
from pytest_mlperf.measure.tuned_system import write_system_file
from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.grid_file import format_point
from pytest_mlperf.tuning.journal import GridRun
from pytest_mlperf.tuning.journal import Journal


def read_grid(arguments: argparse.Namespace) -> Grid:
    """Return the grid of FILE.toml; ``ValueError`` says what is wrong with it."""
    grid = Grid.read(arguments.file)
    if arguments.write and arguments.write.exists():
        raise ValueError(f"--write {arguments.write} exists; name a new file")
    for point in grid.points:  # a wrong value is said before anything runs
        read_run_options(arguments, {**grid.options, **dict(point)})
    return grid


def open_runs(
    arguments: argparse.Namespace, measuring: Measuring, grid: Grid
) -> GridRuns:
    """Return what makes the grid's runs."""
    return GridRuns(
        measuring.rig,
        find_cell(measuring.session.options, grid.cell),
        lambda point: read_run_options(arguments, {**grid.options, **dict(point)}),
    )


@dataclass(frozen=True, slots=True)
class GridSearch:
    """The search of one grid, which goes on where its journal ends."""

    arguments: argparse.Namespace
    measuring: Measuring
    grid: Grid
    runs: GridRuns
    journal: Journal

    @classmethod
    def open(
        cls,
        arguments: argparse.Namespace,
        measuring: Measuring,
        grid: Grid,
        runs: GridRuns,
        suffix: str = ".journal.jsonl",
    ) -> GridSearch:
        """Return the search with the journal beside the grid's file: with the runs that
        are in it, or with ``--again`` a new one.
        """
        session = measuring.session
        options = session.options.as_dict()
        for folder in ("reports", "cache"):  # of this machine; they decide on no run
            options.pop(folder, None)
        header = {
            "grid": grid.digest, "system": session.system.name, "cell": runs.cell.id,
            "options": options,
        }  # fmt: skip
        path = arguments.file.with_suffix(suffix)
        if arguments.again:
            path.unlink(missing_ok=True)
        journal = Journal.open(path, header)
        if journal.runs:
            measuring.tell(f"{len(journal.runs)} runs are in {path}")
        return cls(arguments, measuring, grid, runs, journal)

    @property
    def cell(self) -> Cell:
        return self.runs.cell

    def run(self, point: Point, seconds: float) -> GridRun:
        """Return a run that is in the journal, or is made now."""
        found = self.journal.find(point, seconds)
        if found is None:
            found = self.runs.run(point, seconds)
            self.journal.add(found)
            text = f"{format_point(point)}, {seconds:g} s: {found.figure}"
            self.measuring.tell(text)
        return found

    def score(self, point: Point, seconds: float) -> float | None:
        """Return the score of a run that is in the journal, or is made now."""
        return self.run(point, seconds).score

    def write(self, point: Point, how: Sequence[str]) -> None:
        """Write the system file that was asked for, and say what it does not have.

        ``how``: the command, and what it found, a line each.
        """
        if not self.arguments.write:
            return
        left_out = write_system_file(
            self.arguments.write, self.measuring.session.system, self.cell,
            (*how, f"Grid sha256 {self.grid.digest}"),
            tuple({**self.grid.options, **dict(point)}.items()),
            self.cell.scenario.slug,
        )  # fmt: skip
        file = self.arguments.write
        self.measuring.tell(f"written: {file}; see it used with --mlperf-system")
        for name in left_out:
            text = f"  {name} is no key of a system file's [tuning]: give it"
            self.measuring.tell(text)
