"""The peak search beside a brute-force scan: ``python -m perf.peak bert-99 server``.

A scan runs the whole length at 20 loads, 5 times each, and takes the highest at which
most runs are VALID. Ten searches follow. Only a quiet machine gives figures: each
search says what disturbed it. The scan takes 100 runs; ``--mlperf-duration 60`` makes
that less than two hours.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from pytest_mlperf.commands.shared.run_options import add_run_options
from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.measuring import Measuring
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.peak import PeakFinder
from pytest_mlperf.measure.peak_cache import KnownPeak
from pytest_mlperf.runner.messages import Task

STEP = 0.01
"""Between the scan's loads, as a share of the first search's peak."""


def main() -> int:
    """Print both, and return 0 where every search is within 3 % of the scan."""
    parser = argparse.ArgumentParser(prog="python -m perf.peak", description=__doc__)
    parser.add_argument("cell", nargs="+", metavar="CELL")
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--noisy", action="store_true", help="to try the command")
    add_run_options(parser)
    arguments = parser.parse_args()
    options = read_run_options(arguments)
    cell = find_cell(options, "-".join(arguments.cell))
    with open_measuring(options) as measuring:
        task = measuring.plan(cell)
        found = [search(measuring, task, noisy=arguments.noisy)]
        middle = found[0][0].peak.qps
        if middle is None:
            measuring.tell(f"no peak to scan around: {found[0][0].peak.reason}")
            return 1
        best, scan_s = scan(measuring, task, found[0][0], arguments)
        found += [
            search(measuring, task, noisy=arguments.noisy)
            for _ in range(arguments.searches - 1)
        ]
        measuring.tell(f"scan: {best:,.5g} queries/s in {scan_s:,.0f} s")
        good = 0
        for number, (known, took_s) in enumerate(found, 1):
            qps = known.peak.qps or 0.0
            off = qps / best - 1 if best else float("nan")
            good += abs(off) <= 0.03 and took_s <= scan_s / 10
            text = f"search {number}: {qps:,.5g} queries/s ({off:+.1%}), "
            text += f"{known.peak.outcome}, {took_s:,.0f} s "
            text += f"({took_s / scan_s:.1%} of the scan) {known.peak.reason}"
            measuring.tell(text)
        measuring.tell(f"{good} of {len(found)} within 3 % in a tenth of the time")
    return int(good < len(found))


def search(measuring: Measuring, task: Task, *, noisy: bool) -> tuple[KnownPeak, float]:
    """Return what a search finds, confirmed, and its seconds."""
    started = time.monotonic()
    finder = PeakFinder(measuring.rig, task, measuring.tell, noisy)
    return finder.find(measuring.run), time.monotonic() - started


def scan(
    measuring: Measuring, task: Task, known: KnownPeak, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Return the highest load at which most whole runs are VALID, and the seconds."""
    started, best = time.monotonic(), 0.0
    for number in range(arguments.loads):
        share = 1 + STEP * (number - arguments.loads // 2)
        qps = (known.peak.qps or 0.0) * share
        tuned = replace(known.tuned, target_qps=qps)
        runs = [
            measuring.run(replace(task, tuned=tuned, folder=make_folder(task.folder)))
            for _ in range(arguments.repeats)
        ]
        valid = sum(run.valid for run in runs)
        measuring.tell(f"scan {qps:,.5g} queries/s: {valid} of {len(runs)} VALID")
        if 2 * valid > len(runs):
            best = qps
    return best, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
