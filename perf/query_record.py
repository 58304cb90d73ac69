"""What the record a query costs: null runs with and without it, in turn.

``python -m perf.query_record [--pairs 5] [--seconds 3]`` prints, for each scenario, the
median ratio with to without and every pair's: of LoadGen's figure and of CPU time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from perf.suite_run import Bench
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.runner import Runner

CASES = {
    Scenario.OFFLINE: (Tuning(target_qps=1_500_000), "result_samples_per_second"),
    Scenario.SERVER: (
        Tuning(target_qps=50_000), "result_99.00_percentile_latency_ns",
    ),
    Scenario.SINGLE_STREAM: (
        Tuning(expected_latency_ms=0.002), "result_50.00_percentile_latency_ns",
    ),
}  # fmt: skip
"""Scenario -> the tuning of its null runs, and LoadGen's figure."""


def run_once(
    bench: Bench, scenario: Scenario, seconds: float, *, record: bool
) -> tuple[float, float]:
    """Return LoadGen's figure, and CPU microseconds a sample."""
    tuning, key = CASES[scenario]
    task = bench.make_task(
        "resnet50", "", scenario, "null", seconds=seconds, tuning=tuning
    )
    beats: list[Heartbeat] = []
    runner = Runner(build_s=600.0)
    try:
        runner.run(replace(task, record=record), beats.append)
    finally:
        runner.close()
    during = [one for one in beats if one.phase == "run" and one.completed]
    used_s = during[-1].cpu_s - during[0].cpu_s
    done = during[-1].completed - during[0].completed
    return Log.read(task.folder).number(key), used_s / done * 1e6


def describe_pairs(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Return the ratios of (with, without) in a line."""
    ratios = [with_it / without for with_it, without in pairs]
    each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    return f"{name}: with / without {median(ratios):.3f} ({each})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), Path(name), cpus, 1, 1.0)
        for scenario, (_, key) in CASES.items():
            found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for pair in range(arguments.pairs):
                for record in (pair % 2 == 0, pair % 2 == 1):
                    one = run_once(bench, scenario, arguments.seconds, record=record)
                    found[record].append(one)
            for place, what in enumerate((key, "CPU time a sample")):
                sides = ([one[place] for one in found[side]] for side in (True, False))
                pairs = list(zip(*sides, strict=True))
                print(describe_pairs(f"{scenario.value} {what}", pairs))  # noqa: T201


if __name__ == "__main__":
    main()
