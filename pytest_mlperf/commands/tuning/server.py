"""``pytest-mlperf tune server FILE.toml``: peak and sweep by turns, as the guide."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mlperf.commands.tuning.measuring import Measuring
    from pytest_mlperf.measure.grid import GridRuns
    from pytest_mlperf.tuning.grid_file import Grid
    from pytest_mlperf.tuning.grid_file import Point
    from pytest_mlperf.tuning.journal import Journal
    from pytest_mlperf.tuning.peak_search import Peak
    from pytest_mlperf.tuning.server_procedure import ServerRound

HELP = (
    "the settings with the largest load of a Server or Interactive cell: its peak, the "
    "lowest latency at that load, and again until nothing changes"
)
LOAD = "target_qps"
FOUND, NOT_FOUND = 0, 1
"""Exit codes: a load and its settings; no peak was confirmed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Imported here: other commands need no plugin option.
    from pytest_mlperf.commands.shared.run_options import add_run_options

    parser.add_argument(
        "file", type=Path, metavar="FILE.toml",
        help="the grid; its first combination is where the search begins",
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="search, whatever is known already"
    )
    parser.add_argument(
        "--noisy", action="store_true",
        help="count trials that other programs disturbed too",
    )  # fmt: skip
    parser.add_argument(
        "--write", type=Path, metavar="SYSTEM.toml",
        help="write load and settings as a new system file's [tuning]",
    )  # fmt: skip
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, print each round and return the exit code."""
    from pytest_mlperf.commands.shared.run_options import find_cell
    from pytest_mlperf.commands.shared.run_options import read_run_options
    from pytest_mlperf.commands.tuning.grid import read_grid
    from pytest_mlperf.commands.tuning.measuring import open_measuring
    from pytest_mlperf.measure.peak_trials import has_peak

    grid = read_grid(arguments)
    options = read_run_options(arguments, grid.options)
    cell = find_cell(options, grid.cell)
    if not has_peak(cell.rule):
        raise ValueError(f"{cell.id} has no load to search: tune grid is for it")
    if options.tuning_for(cell.scenario).get("target_qps") is not None:
        raise ValueError("target_qps is what is looked for; leave it out")
    with open_measuring(options) as measuring:
        return search(arguments, measuring, grid)


def search(arguments: argparse.Namespace, measuring: Measuring, grid: Grid) -> int:
    """Run the procedure, print and write what is found; return the exit code."""
    from pytest_mlperf.commands.tuning.grid import open_journal
    from pytest_mlperf.commands.tuning.grid import open_runs
    from pytest_mlperf.commands.tuning.grid import tell_written
    from pytest_mlperf.tuning.grid_file import format_point
    from pytest_mlperf.tuning.peak_search import format_rate
    from pytest_mlperf.tuning.server_procedure import tune_server

    runs = open_runs(arguments, measuring, grid)
    journal = open_journal(arguments, measuring, grid, runs.cell, ".server.jsonl")
    peaks: dict[Point, Peak] = {}
    tuned = tune_server(
        grid.points[0],
        partial(find_peak, arguments, measuring, runs, peaks),
        partial(find_fastest, measuring, runs, journal, grid),
    )
    measuring.tell(f"{runs.cell.id}, {len(tuned.rounds)} rounds; {tuned.reason}:")
    for one in tuned.rounds:
        rate = format_rate(one.qps)
        shown = "" if one.is_confirmed else ", not confirmed by a whole run"
        measuring.tell(f"  {rate:>10} queries/s  {format_point(one.point)}{shown}")
    best = tuned.best
    if best is None:
        return NOT_FOUND
    rate = format_rate(best.qps)
    measuring.tell(f"best: {format_point(best.point)} at {rate} queries/s")
    others = max((one.others_share for one in peaks[best.point].trials), default=0.0)
    counted = ", which were counted (--noisy)" if arguments.noisy else ""
    how = (
        "tune server",
        f"the largest of {len(tuned.rounds)} loads, {len(grid.points)} combinations;",
        f"{peaks[best.point].describe()}.",
        f"Others used up to {others:.0%} of the CPUs in its trials{counted}.",
        f"Engine build {find_build(journal, best.point) or 'not known'}",
    )
    point = at_load(best.point, best.qps)
    tell_written(arguments, measuring, grid, point, runs.cell, how)
    return FOUND


def find_build(journal: Journal, point: Point) -> str:
    """Return the build of a combination's runs, at whatever load; empty if none ran."""
    for (known, _), run in journal.runs.items():
        if tuple(pair for pair in known if pair[0] != LOAD) == point and run.build:
            return run.build
    return ""


def at_load(point: Point, qps: float) -> Point:
    """Return a combination with its load: as one more option."""
    return (*point, (LOAD, f"{qps:.6g}"))


def find_peak(
    arguments: argparse.Namespace,
    measuring: Measuring,
    runs: GridRuns,
    peaks: dict[Point, Peak],
    point: Point,
) -> ServerRound | None:
    """Return the peak of settings, known or searched now, and keep it in ``peaks``."""
    from pytest_mlperf.measure.peak import PeakFinder
    from pytest_mlperf.tuning.grid_file import format_point
    from pytest_mlperf.tuning.server_procedure import read_round

    measuring.tell(f"peak of {format_point(point)}")
    task = runs.plan(point)
    finder = PeakFinder(measuring.rig, task, measuring.tell, arguments.noisy)
    known = None if arguments.again else finder.find_cached()
    peak = (known or finder.find(measuring.run)).peak
    peaks[point] = peak
    measuring.tell(peak.describe())
    return read_round(point, peak)


def find_fastest(
    measuring: Measuring, runs: GridRuns, journal: Journal, grid: Grid, qps: float
) -> Point | None:
    """Return the settings with the lowest latency at a load, by successive halving."""
    from pytest_mlperf.commands.tuning.grid import score
    from pytest_mlperf.tuning.halving import halve
    from pytest_mlperf.tuning.halving import plan_rungs

    rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
    ranked = halve(
        grid.points,
        rungs,
        lambda point, seconds: score(
            measuring, runs.run, journal, at_load(point, qps), seconds
        ),
    )
    return ranked[0][0] if ranked else None
