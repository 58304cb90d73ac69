"""``pytest-mlperf tune server FILE.toml``: peak and sweep by turns, as the guide."""

from __future__ import annotations

import argparse
from functools import partial

from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.grid_search import GridSearch
from pytest_mlperf.commands.tuning.grid_search import open_runs
from pytest_mlperf.commands.tuning.grid_search import read_grid
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.measure.peak import PeakFinder
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.grid_file import format_point
from pytest_mlperf.tuning.halving import halve
from pytest_mlperf.tuning.halving import plan_rungs
from pytest_mlperf.tuning.journal import Journal
from pytest_mlperf.tuning.peak_search import Peak
from pytest_mlperf.tuning.peak_search import format_rate
from pytest_mlperf.tuning.server_procedure import ServerRound
from pytest_mlperf.tuning.server_procedure import read_round
from pytest_mlperf.tuning.server_procedure import tune_server

LOAD = "target_qps"
FOUND, NOT_FOUND = 0, 1
"""Exit codes: a load and its settings; no peak was confirmed."""


def run(arguments: argparse.Namespace) -> int:
    """Search, print each round and return the exit code."""
    grid = read_grid(arguments)
    options = read_run_options(arguments, grid.options)
    cell = find_cell(options, grid.cell)
    if not has_peak(cell.rule):
        raise ValueError(f"{cell.id} has no load to search: tune grid is for it")
    if options.tuning_for(cell.scenario).get(LOAD) is not None:
        raise ValueError(f"{LOAD} is what is looked for; leave it out")
    with open_measuring(options) as measuring:
        runs = open_runs(arguments, measuring, grid)
        suffix = ".server.jsonl"
        return find_best(GridSearch.open(arguments, measuring, grid, runs, suffix))


def find_best(search: GridSearch) -> int:
    """Run the procedure, print and write what is found; return the exit code."""
    grid, tell = search.grid, search.measuring.tell
    peaks: dict[Point, Peak] = {}
    tuned = tune_server(
        grid.points[0], partial(find_peak, search, peaks), partial(find_fastest, search)
    )
    tell(f"{search.cell.id}, {len(tuned.rounds)} rounds; {tuned.reason}:")
    for one in tuned.rounds:
        rate = format_rate(one.qps)
        shown = "" if one.is_confirmed else ", not confirmed by a whole run"
        tell(f"  {rate:>10} queries/s  {format_point(one.point)}{shown}")
    best = tuned.best
    if best is None:
        return NOT_FOUND
    tell(f"best: {format_point(best.point)} at {format_rate(best.qps)} queries/s")
    others = max((one.others_share for one in peaks[best.point].trials), default=0.0)
    is_counted = search.arguments.noisy
    counted = ", which were counted (--noisy)" if is_counted else ""
    how = (
        "tune server",
        f"the largest of {len(tuned.rounds)} loads, {len(grid.points)} combinations;",
        f"{peaks[best.point].describe()}.",
        f"Others used up to {others:.0%} of the CPUs in its trials{counted}.",
        f"Engine build {find_build(search.journal, best.point) or 'not known'}",
    )
    search.write(at_load(best.point, best.qps), how)
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
    search: GridSearch, peaks: dict[Point, Peak], point: Point
) -> ServerRound | None:
    """Return the peak of settings, known or searched now, and keep it in ``peaks``."""
    arguments, measuring = search.arguments, search.measuring
    measuring.tell(f"peak of {format_point(point)}")
    task = search.runs.plan(point)
    finder = PeakFinder(measuring.rig, task, measuring.tell, arguments.noisy)
    known = None if arguments.again else finder.find_cached()
    peak = (known or finder.find(measuring.run)).peak
    peaks[point] = peak
    measuring.tell(peak.describe())
    return read_round(point, peak)


def find_fastest(search: GridSearch, qps: float) -> Point | None:
    """Return the settings with the lowest latency at a load, by successive halving."""
    grid = search.grid
    ranked = halve(
        grid.points,
        plan_rungs(len(grid.points), grid.seconds, grid.keep),
        lambda point, seconds: search.score(at_load(point, qps), seconds),
    )
    return ranked[0][0] if ranked else None
