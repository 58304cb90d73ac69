"""A grid by halving beside all of it: ``python -m perf.grid [bert-99-offline]``.

48 points of onnxruntime: streams x threads x batch. Every point runs for 9 s; halving
has a third of those seconds. Then the two bests run by turns, so that what the machine
does meanwhile meets both: the ratio of neighbors says what halving's best is worth.
Prints both, their ratio, and what each took. Only a quiet machine gives figures; takes
less than 20 minutes where the lengths are left as they are.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.commands import tune
from pytest_mlperf.commands.main import main as run_command
from pytest_mlperf.commands.shared.run_options import add_run_options
from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.arguments import add_grid_arguments
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.measure.grid import GridRuns
from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.grid_file import format_point

GRID = """cell = "{cell}"
seconds = {seconds}
keep = {keep}
[grid]
streams = [1, 2, 3, 4]
threads = [1, 2, 3]
batch = [1, 4, 8, 16]
"""
POINTS = 48
KEEP = 4
"""Rungs of 48, 12 and 3 points: 1, 4 and 16 s."""
LESS = 0.02
"""Share by which halving's best may be slower."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a command found."""

    best: Point
    figure: str
    runs: int
    run_s: float
    """Of its runs' least durations."""
    took_s: float
    others_share: float
    """Most of the CPUs that other programs used beside a run."""

    def describe(self, name: str) -> str:
        """Return the search in a line."""
        return (
            f"{name}: {self.runs} runs, {self.run_s:,.0f} s of running in "
            f"{self.took_s:,.0f} s; best {format_point(self.best)}, {self.figure}; "
            f"others used up to {self.others_share:.0%} of the CPUs"
        )


def main() -> int:
    """Print the comparison, and return 0 where halving's best is within 2 %."""
    parser = ArgumentParser(prog="python -m perf.grid", description=__doc__)
    parser.add_argument("cell", nargs="?", default="bert-99-offline")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a first run")
    parser.add_argument("--point", type=float, default=9.0, help="seconds of a point")
    parser.add_argument("--pair", type=float, default=10.0, help="seconds of a turn")
    parser.add_argument("--pairs", type=int, default=5)
    given, more = parser.parse_known_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        quick = search(folder / "halving.toml", given.cell, given.seconds, KEEP, more)
        every = search(folder / "all.toml", given.cell, given.point, POINTS, more)
        lines = [quick.describe("halving"), every.describe("all points")]
        running = f"{quick.run_s / every.run_s:.0%} of the seconds of running"
        if quick.best == every.best:
            share = 1.0
            lines.append(f"both chose the same combination, halving by {running}")
        else:
            ratios = compare(folder / "halving.toml", quick, every, given, more)
            share = statistics.median(ratios)
            spread = f"{min(ratios):.1%} to {max(ratios):.1%} in {len(ratios)} pairs"
            text = f"halving's best has {share:.1%} of the other's figure ({spread})"
            lines.append(f"{text}, by {running}")
    lines.append(f"took {time.monotonic() - started:,.0f} s")
    sys.stdout.write("\n".join([*lines, ""]))
    return int(share < 1 - LESS)


def search(file: Path, cell: str, seconds: float, keep: int, more: list[str]) -> Search:
    """Run ``tune grid`` over a new file; ``keep`` of all points: one rung."""
    text = GRID.format(cell=cell, seconds=seconds, keep=keep)
    file.write_text(text, encoding="utf-8")
    started = time.monotonic()
    if run_command(["tune", "grid", str(file), *more]) == tune.REFUSED:
        raise SystemExit(f"{cell}: the grid was refused; the line above says why")
    took_s, runs = time.monotonic() - started, read_runs(file)
    longest = max((run["seconds"] for run in runs), default=0.0)
    last = [r for r in runs if r["seconds"] == longest and r["score"] is not None]
    if not last:
        raise SystemExit(f"{cell}: no combination ran; the lines above say why")
    best = max(last, key=lambda run: float(run["score"]))
    return Search(
        tuple((name, value) for name, value in best["point"]), best["figure"],
        len(runs), sum(run["seconds"] for run in runs), took_s,
        max(run["others_share"] for run in runs),
    )  # fmt: skip


def read_runs(file: Path) -> list[dict[str, Any]]:
    """Return the runs of a grid's journal."""
    lines = file.with_suffix(".journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[1:]]


def compare(
    file: Path, quick: Search, every: Search, given: Namespace, more: list[str]
) -> list[float]:
    """Return halving's best over the other one's, of neighboring runs."""
    parser = ArgumentParser()
    add_grid_arguments(parser)
    add_run_options(parser)
    arguments = parser.parse_args([str(file), *more])
    grid = Grid.read(file)
    ratios = []
    options = read_run_options(arguments, grid.options)
    with open_measuring(options) as measuring:
        runs = GridRuns(
            measuring.rig,
            find_cell(options, grid.cell),
            lambda point: read_run_options(arguments, {**grid.options, **dict(point)}),
        )  # fmt: skip
        for number in range(given.pairs):
            turn = [quick.best, every.best]
            order = turn if number % 2 == 0 else turn[::-1]
            found = {point: runs.run(point, given.pair) for point in order}
            ours, other = (found[point] for point in turn)
            measuring.tell(f"pair {number + 1}: {ours.figure} against {other.figure}")
            if ours.score is None or other.score is None:
                raise SystemExit("a run of the comparison failed; it says why above")
            # A stream's score is its latency below zero.
            ratio = ours.score / other.score
            ratios.append(ratio if ours.score > 0 else 1 / ratio)
    return ratios


if __name__ == "__main__":
    sys.exit(main())
