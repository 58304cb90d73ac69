"""``pytest-mlperf tune peak CELL``: the largest load that keeps the bound."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pytest_mlperf.commands.shared.run_options import find_cell
from pytest_mlperf.commands.shared.run_options import read_run_options
from pytest_mlperf.commands.tuning.measuring import Measuring
from pytest_mlperf.commands.tuning.measuring import open_measuring
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.expected import expect
from pytest_mlperf.measure.peak import PeakFinder
from pytest_mlperf.measure.peak_cache import KnownPeak
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.tuning.peak_search import CONFIRMED

FOUND, NOT_FOUND = 0, 1
"""Exit codes: confirmed; no answer on this machine now."""


def run(arguments: argparse.Namespace) -> int:
    """Search, print what is found and return the exit code."""
    options = read_run_options(arguments)
    cell = find_cell(options, "-".join(arguments.cell))
    if options.tuning_for(cell.scenario).get("target_qps") is not None:
        raise ValueError("--mlperf-target-qps is what is looked for; leave it out")
    with open_measuring(options) as measuring:
        if has_peak(cell.rule):
            return search(arguments, measuring, cell)
        return estimate(measuring, cell)


def search(arguments: argparse.Namespace, measuring: Measuring, cell: Cell) -> int:
    """Search a load, or find it in the cache; print it and return the exit code."""
    task = measuring.plan(cell)
    finder = PeakFinder(measuring.rig, task, measuring.tell, arguments.noisy)
    known = None if arguments.again else finder.find_cached()
    if known is not None:
        measuring.tell(f"{cell.id}: {known.peak.describe()}")
        measuring.tell(f"found {known.found}; search again with --again")
        return FOUND
    verdicts: list[Verdict] = []

    def run_whole(task: Task) -> Verdict:
        verdicts.append(measuring.run(task))
        return verdicts[-1]

    known = finder.find(run_whole)
    file = measuring.session.reports / f"peak-{cell.file_name}.json"
    write_record(file, cell.id, known)
    measuring.tell(f"{cell.id}: {known.peak.describe()}")
    seconds = known.peak.seconds
    measuring.tell(f"{len(known.peak.trials)} trials, {seconds:,.0f} s; all in {file}")
    for verdict in verdicts[-1:]:
        measuring.tell(verdict.explain())
    if known.peak.outcome != CONFIRMED:
        return NOT_FOUND
    rate = f"{cell.scenario.slug}={known.peak.qps:.6g}"
    measuring.tell(f"run it so: --mlperf-target-qps={rate}, or --mlperf-find-peak")
    return FOUND


def write_record(file: Path, cell: str, known: KnownPeak) -> None:
    """Write a search as JSON: the answer, each trial, and the tuning."""
    values = {"cell": cell, "peak": asdict(known.peak), "tuning": asdict(known.tuned)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def estimate(measuring: Measuring, cell: Cell) -> int:
    """Print what to expect of a scenario without a load; return the exit code."""
    found = expect(measuring.rig, measuring.plan(cell), measuring.tell)
    measuring.tell(f"{cell.id}: {found.describe()}; run it so: {found.option}")
    return NOT_FOUND if measuring.tell_noise(found.others_share) else FOUND
