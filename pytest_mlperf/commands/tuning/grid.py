"""``pytest-mlperf tune grid FILE.toml``: the best of many combinations of settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mlperf.commands.tuning.measuring import Measuring
    from pytest_mlperf.core.cell import Cell
    from pytest_mlperf.measure.grid import GridRuns
    from pytest_mlperf.tuning.grid_file import Grid
    from pytest_mlperf.tuning.grid_file import Point
    from pytest_mlperf.tuning.journal import GridRun
    from pytest_mlperf.tuning.journal import Journal

HELP = (
    "the best of many combinations of a cell's settings, by successive halving; a "
    "search that was killed goes on where it was"
)
FOUND, NOT_FOUND = 0, 1
"""Exit codes: a best one; none that runs, or others used the CPUs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # Imported here: other commands need no plugin option.
    from pytest_mlperf.commands.shared.run_options import add_run_options

    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE.toml",
        help="the grid; docs/reference/tuning.md",
    )
    parser.add_argument(
        "--again", action="store_true", help="begin anew, whatever the journal has"
    )
    parser.add_argument(
        "--exhaustive", action="store_true",
        help="run every combination as long as the last ones, to compare with",
    )  # fmt: skip
    parser.add_argument(
        "--write", type=Path, metavar="SYSTEM.toml",
        help="write the best settings as a new system file's [tuning]",
    )  # fmt: skip
    parser.add_argument(
        "--heat-map", type=Path, metavar="OUT.html",
        help="draw the results, two settings at a time, as one HTML file",
    )  # fmt: skip
    parser.add_argument(
        "--csv", type=Path, metavar="OUT.csv",
        help="write every run of the journal: its settings, seconds and figure",
    )  # fmt: skip
    parser.add_argument(
        "--sampler", choices=("tpe", "random"),
        help="let optuna choose what to try (the extra tune), for grids that are too "
        "large for halving",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=int, default=50, metavar="N",
        help="with --sampler: in all, of every machine (default 50)",
    )  # fmt: skip
    parser.add_argument(
        "--storage", metavar="WHERE",
        help="with --sampler: journal:FILE (default: beside FILE.toml), redis://… or "
        "postgresql://… for several machines",
    )  # fmt: skip
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Search, print a table of the last runs and return the exit code."""
    from pytest_mlperf.commands.shared.run_options import read_run_options
    from pytest_mlperf.commands.tuning.measuring import open_measuring
    from pytest_mlperf.reporting.html.page import EXTRA
    from pytest_mlperf.reporting.html.page import find_missing_package

    grid = read_grid(arguments)
    if arguments.trials < 1:
        raise ValueError(f"--trials {arguments.trials}, but should be 1 or more")
    if arguments.storage and not arguments.sampler:
        raise ValueError("--storage is of --sampler; give both")
    missing = find_missing_package() if arguments.heat_map else None
    if missing:
        raise ValueError(f"--heat-map needs {missing}; {EXTRA}")
    options = read_run_options(arguments, grid.options)
    with open_measuring(options) as measuring:
        return search(arguments, measuring, grid)


def read_grid(arguments: argparse.Namespace) -> Grid:
    """Return the grid of FILE.toml; ``ValueError`` says what is wrong with it."""
    from pytest_mlperf.commands.shared.run_options import read_run_options
    from pytest_mlperf.tuning.grid_file import Grid

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
    from pytest_mlperf.commands.shared.run_options import find_cell
    from pytest_mlperf.commands.shared.run_options import read_run_options
    from pytest_mlperf.measure.grid import GridRuns

    return GridRuns(
        measuring.rig,
        find_cell(measuring.session.options, grid.cell),
        lambda point: read_run_options(arguments, {**grid.options, **dict(point)}),
    )  # fmt: skip


def open_journal(
    arguments: argparse.Namespace,
    measuring: Measuring,
    grid: Grid,
    cell: Cell,
    suffix: str = ".journal.jsonl",
) -> Journal:
    """Return the journal beside the grid's file, with the runs that are in it."""
    from pytest_mlperf.tuning.journal import Journal

    session = measuring.session
    options = session.options.as_dict()
    for folder in ("reports", "cache"):  # of this machine; they decide on no run
        options.pop(folder, None)
    header = {
        "grid": grid.digest, "system": session.system.name, "cell": cell.id,
        "options": options,
    }  # fmt: skip
    path = arguments.file.with_suffix(suffix)
    if arguments.again:
        path.unlink(missing_ok=True)
    journal = Journal.open(path, header)
    if journal.runs:
        measuring.tell(f"{len(journal.runs)} runs are in {path}")
    return journal


def search(arguments: argparse.Namespace, measuring: Measuring, grid: Grid) -> int:
    """Run the grid's rungs, print and write the best; return the exit code."""
    from pytest_mlperf.measure.peak_trials import has_peak
    from pytest_mlperf.tuning.run_table import write_runs

    runs = open_runs(arguments, measuring, grid)
    cell = runs.cell
    if has_peak(cell.rule) and runs.plan(grid.points[0]).tuning.target_qps is None:
        raise ValueError(
            f"{cell.id} is compared at one load; give target_qps in [options], such as "
            f"the one that pytest-mlperf tune peak {cell.id} finds; or search both by "
            "pytest-mlperf tune server"
        )
    journal = open_journal(arguments, measuring, grid, cell)
    final = rank(arguments, measuring, grid, runs, journal)
    if not final:
        measuring.tell("no combination runs; the journal has the reasons")
        return NOT_FOUND
    if arguments.csv:
        write_runs(arguments.csv, journal.runs.values())
        measuring.tell(f"runs: {arguments.csv}")
    if arguments.heat_map:
        write_heat_maps(arguments.heat_map, cell, journal)
        measuring.tell(f"heat maps: {arguments.heat_map}")
    return report(arguments, measuring, grid, final, cell)


def rank(
    arguments: argparse.Namespace,
    measuring: Measuring,
    grid: Grid,
    runs: GridRuns,
    journal: Journal,
) -> list[GridRun]:
    """Run the grid, or trials of it, and return the longest runs, best first."""
    from pytest_mlperf.tuning import sampled_search
    from pytest_mlperf.tuning.halving import Rung
    from pytest_mlperf.tuning.halving import halve
    from pytest_mlperf.tuning.halving import plan_rungs

    rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
    if arguments.sampler:
        default = f"journal:{arguments.file.with_suffix('.optuna.jsonl')}"
        sampling = sampled_search.Sampling(
            arguments.sampler, arguments.trials, arguments.storage or default
        )
        place = measuring.session.system.name
        name = f"{runs.cell.id} on {place}, {journal.digest[:12]}"
        study = sampled_search.open_study(sampling, name, grid.keep)
        known = len(study.get_trials(deepcopy=False))
        if known:
            measuring.tell(f"{known} trials are in the storage")
        return sampled_search.search(
            study, grid, rungs, sampling.trials,
            partial(run_once, measuring, runs.run, journal),
        )  # fmt: skip
    if arguments.exhaustive:
        rungs = (Rung(rungs[-1].seconds, 1),)
    ranked = halve(grid.points, rungs, partial(score, measuring, runs.run, journal))
    return [found for p, _ in ranked if (found := journal.find(p, rungs[-1].seconds))]


def write_heat_maps(path: Path, cell: Cell, journal: Journal) -> None:
    """Write the longest run of each combination as heat maps; ``OSError``."""
    from pytest_mlperf.reporting.html.heat_map import GridResult
    from pytest_mlperf.reporting.html.heat_map import draw_heat_maps
    from pytest_mlperf.reporting.html.heat_map import render_page

    longest: dict[Point, GridResult] = {}
    for (point, seconds), run in sorted(journal.runs.items(), key=lambda it: it[0][1]):
        if run.score is not None:
            longest[point] = GridResult(dict(point), run.score, run.figure, seconds)
    spec = draw_heat_maps(cell.id, [*longest.values()])
    if spec is None:
        raise ValueError("--heat-map: no setting of the grid has two values that run")
    path.write_text(render_page(spec), encoding="utf-8")


def score(
    measuring: Measuring,
    run_point: Callable[[Point, float], GridRun],
    journal: Journal,
    point: Point,
    seconds: float,
) -> float | None:
    """Return the score of a run that is in the journal, or is made now."""
    return run_once(measuring, run_point, journal, point, seconds).score


def run_once(
    measuring: Measuring,
    run_point: Callable[[Point, float], GridRun],
    journal: Journal,
    point: Point,
    seconds: float,
) -> GridRun:
    """Return a run that is in the journal, or is made now."""
    from pytest_mlperf.tuning.grid_file import format_point

    found = journal.find(point, seconds)
    if found is None:
        found = run_point(point, seconds)
        journal.add(found)
        measuring.tell(f"{format_point(point)}, {seconds:g} s: {found.figure}")
    return found


def report(
    arguments: argparse.Namespace,
    measuring: Measuring,
    grid: Grid,
    final: list[GridRun],
    cell: Cell,
) -> int:
    """Print the last rung, best first, and write the best; return the exit code."""
    from pytest_mlperf.reporting.html.heat_map import find_share
    from pytest_mlperf.tuning.grid_file import format_point

    best = final[0]
    width = max(len(format_point(one.point)) for one in final)
    measuring.tell(f"{cell.id}, the last of {len(grid.points)} combinations:")
    for one in final:
        part = find_share(one.score or 0.0, best.score or 0.0)
        measuring.tell(
            f"  {format_point(one.point):{width}}  {part:4.0%}  {one.figure}"
        )
    measuring.tell(f"best: {format_point(best.point)}")
    how = (
        "tune grid",
        f"the best of {len(grid.points)} combinations in runs of {best.seconds:g} s,",
        f"{best.figure}; others used {best.others_share:.0%} of the CPUs.",
        f"Engine build {best.build}",
    )
    tell_written(arguments, measuring, grid, best.point, cell, how)
    is_noisy = measuring.tell_noise(max(one.others_share for one in final))
    return NOT_FOUND if is_noisy else FOUND


def tell_written(
    arguments: argparse.Namespace,
    measuring: Measuring,
    grid: Grid,
    point: Point,
    cell: Cell,
    how: Sequence[str],
) -> None:
    """Write the system file that was asked for, and say what it does not have.

    ``how``: the command, and what it found, a line each.
    """
    from pytest_mlperf.measure.tuned_system import write_system_file

    if not arguments.write:
        return
    left_out = write_system_file(
        arguments.write, measuring.session.system, cell,
        (*how, f"Grid sha256 {grid.digest}"),
        tuple({**grid.options, **dict(point)}.items()), cell.scenario.slug,
    )  # fmt: skip
    measuring.tell(f"written: {arguments.write}; see it used with --mlperf-system")
    for name in left_out:
        measuring.tell(f"  {name} is no key of a system file's [tuning]: give it")
