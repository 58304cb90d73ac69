"""``pytest-mlperf tune grid FILE.toml``: the best of many combinations of settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.grid_search import GridSearch
from pytest_mlperf.commands.tuning.grid_search import open_runs
from pytest_mlperf.commands.tuning.grid_search import read_grid
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.grid import GridRuns
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.reporting.html.heat_map import GridResult
from pytest_mlperf.reporting.html.heat_map import draw_heat_maps
from pytest_mlperf.reporting.html.heat_map import find_share
from pytest_mlperf.reporting.html.heat_map import render_page
from pytest_mlperf.reporting.html.page import EXTRA
from pytest_mlperf.reporting.html.page import find_missing_package
from pytest_mlperf.tuning import sampled_search
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.grid_file import format_point
from pytest_mlperf.tuning.halving import Rung
from pytest_mlperf.tuning.halving import halve
from pytest_mlperf.tuning.halving import plan_rungs
from pytest_mlperf.tuning.journal import GridRun
from pytest_mlperf.tuning.journal import Journal
from pytest_mlperf.tuning.run_table import write_runs

FOUND, NOT_FOUND = 0, 1
"""Exit codes: a best one; none that runs, or others used the CPUs."""


def run(arguments: argparse.Namespace) -> int:
    """Search, print a table of the last runs and return the exit code."""
    grid = read_grid(arguments)
    if arguments.trials < 1:
        raise ValueError(f"--trials {arguments.trials}, but should be 1 or more")
    if arguments.storage and not arguments.sampler:
        raise ValueError("--storage is of --sampler; give both")
    missing = find_missing_package() if arguments.heat_map else None
    if missing:
        raise ValueError(f"--heat-map needs {missing}; {EXTRA}")
    with open_measuring(read_run_options(arguments, grid.options)) as measuring:
        runs = open_runs(arguments, measuring, grid)
        refuse_open_load(runs, grid.points[0])
        return find_best(GridSearch.open(arguments, measuring, grid, runs))


def refuse_open_load(runs: GridRuns, point: Point) -> None:
    """Raise ``ValueError`` where a load would be another one in each run."""
    if has_peak(runs.cell.rule) and runs.plan(point).tuning.target_qps is None:
        raise ValueError(
            f"{runs.cell.id} is compared at one load; give target_qps in [options], "
            f"such as the one that pytest-mlperf tune peak {runs.cell.id} finds; or "
            "search both by pytest-mlperf tune server"
        )


def find_best(search: GridSearch) -> int:
    """Run the grid's rungs, print and write the best; return the exit code."""
    arguments, tell = search.arguments, search.measuring.tell
    final = run_trials(search) if arguments.sampler else run_rungs(search)
    if not final:
        tell("no combination runs; the journal has the reasons")
        return NOT_FOUND
    if arguments.csv:
        write_runs(arguments.csv, search.journal.runs.values())
        tell(f"runs: {arguments.csv}")
    if arguments.heat_map:
        write_heat_maps(arguments.heat_map, search.cell, search.journal)
        tell(f"heat maps: {arguments.heat_map}")
    return report(search, final)


def run_rungs(search: GridSearch) -> list[GridRun]:
    """Run the grid by successive halving; return the longest runs, best first."""
    grid = search.grid
    rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
    if search.arguments.exhaustive:
        rungs = (Rung(rungs[-1].seconds, 1),)
    ranked = halve(grid.points, rungs, search.score)
    longest_s = rungs[-1].seconds
    return [run for p, _ in ranked if (run := search.journal.find(p, longest_s))]


def run_trials(search: GridSearch) -> list[GridRun]:
    """Run what optuna chooses of the grid; return the longest runs, best first."""
    arguments, grid, measuring = search.arguments, search.grid, search.measuring
    default = f"journal:{arguments.file.with_suffix('.optuna.jsonl')}"
    sampling = sampled_search.Sampling(
        arguments.sampler, arguments.trials, arguments.storage or default
    )
    place = measuring.session.system.name
    name = f"{search.cell.id} on {place}, {search.journal.digest[:12]}"
    study = sampled_search.open_study(sampling, name, grid.keep)
    if known := len(study.get_trials(deepcopy=False)):
        measuring.tell(f"{known} trials are in the storage")
    rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
    return sampled_search.search(study, grid, rungs, sampling.trials, search.run)


def write_heat_maps(path: Path, cell: Cell, journal: Journal) -> None:
    """Write the longest run of each combination as heat maps; ``OSError``."""
    longest: dict[Point, GridResult] = {}
    for (point, seconds), run in sorted(journal.runs.items(), key=lambda it: it[0][1]):
        if run.score is not None:
            longest[point] = GridResult(dict(point), run.score, run.figure, seconds)
    spec = draw_heat_maps(cell.id, [*longest.values()])
    if spec is None:
        raise ValueError("--heat-map: no setting of the grid has two values that run")
    path.write_text(render_page(spec), encoding="utf-8")


def report(search: GridSearch, final: Sequence[GridRun]) -> int:
    """Print the last rung, best first, and write the best; return the exit code."""
    best, count = final[0], len(search.grid.points)
    width = max(len(format_point(one.point)) for one in final)
    tell = search.measuring.tell
    tell(f"{search.cell.id}, the last of {count} combinations:")
    for one in final:
        part = find_share(one.score or 0.0, best.score or 0.0)
        tell(f"  {format_point(one.point):{width}}  {part:4.0%}  {one.figure}")
    tell(f"best: {format_point(best.point)}")
    how = (
        "tune grid",
        f"the best of {count} combinations in runs of {best.seconds:g} s,",
        f"{best.figure}; others used {best.others_share:.0%} of the CPUs.",
        f"Engine build {best.build}",
    )
    search.write(best.point, how)
    others = max(one.others_share for one in final)
    return NOT_FOUND if search.measuring.tell_noise(others) else FOUND
