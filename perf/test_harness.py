"""The suite's own cost: the null engine through all of it against a bare loop.

Both sides run in a fresh process each time, in turn. Nothing here asserts a speed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from functools import partial

import pytest

from perf.conftest import Replay
from perf.suite_run import ROOT
from perf.suite_run import Bench
from perf.suite_run import assert_sound
from perf.suite_run import run_suite
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario

SECONDS = 3.0
OFFLINE_RATE = 1_500_000.0
"""5 M samples in all, 1.5 GB. A loop that is faster ends before the minimum duration:
INVALID to LoadGen, and a rate all the same."""
SERVER_QPS = 50_000.0
RATES = {Scenario.OFFLINE: OFFLINE_RATE, Scenario.SERVER: SERVER_QPS}
STREAM_NS = {Scenario.SINGLE_STREAM: 2_000, Scenario.MULTI_STREAM: 5_000}
"""LoadGen lists twice the queries that this latency lets expect, so that half of it
is the shortest time between two queries that a run can measure."""
SAMPLES = 256
SIDES = ("suite", "bare", "bare-gc")
"""``bare`` has garbage collection off, as the suite has."""
PERCENTILES = (
    (Scenario.SERVER, "50.00"),
    (Scenario.SERVER, "99.00"),
    (Scenario.SINGLE_STREAM, "50.00"),
    (Scenario.SINGLE_STREAM, "90.00"),
    (Scenario.MULTI_STREAM, "50.00"),
    (Scenario.MULTI_STREAM, "90.00"),
)


def run_bare(bench: Bench, scenario: Scenario, *, quiet: bool) -> Log:
    """Run the bare loop in a fresh process and return its log."""
    folder = bench.make_folder(f"bare-{scenario.slug}")
    command = [sys.executable, "-m", "perf.bare", scenario.value, str(folder)]
    command += ["--seconds", str(SECONDS * bench.scale)]
    command += ["--rate", str(RATES.get(scenario, 1.0)), "--samples", str(SAMPLES)]
    command += ["--latency-ns", str(STREAM_NS.get(scenario, 0))]
    command += ["--quiet"] if quiet else []
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)
    log = Log.read(folder)
    assert_sound(log)
    return log


def run_null(bench: Bench, scenario: Scenario) -> Log:
    """Run the null engine through a fresh runner and return the log."""
    latency = STREAM_NS.get(scenario)
    tuning = Tuning(
        target_qps=RATES.get(scenario),
        expected_latency_ms=latency / 1e6 if latency else None,
    )
    task = bench.make_task(
        "resnet50", "", scenario, "null", seconds=SECONDS, tuning=tuning
    )
    return run_suite(task).log


@cache
def measure_logs(bench: Bench, scenario: Scenario) -> dict[str, list[Log]]:
    """Return LoadGen's logs of every side of a scenario."""
    sides = {
        "suite": partial(run_null, bench, scenario),
        "bare": partial(run_bare, bench, scenario, quiet=True),
        "bare-gc": partial(run_bare, bench, scenario, quiet=False),
    }
    if scenario is not Scenario.OFFLINE:
        del sides["bare-gc"]
    return bench.alternate(sides)


@pytest.mark.parametrize("side", SIDES)
def test_offline(side: str, bench: Bench, replay: Replay) -> None:
    """Every sample of one large query is answered, by us and by the bare loop."""
    logs = measure_logs(bench, Scenario.OFFLINE)
    rates = [log.number("result_samples_per_second") for log in logs[side]]
    replay.report_rates("null Offline", rates, "sample")
    wanted = int(1.1 * SECONDS * bench.scale * OFFLINE_RATE)

    for log in logs["suite"]:
        # LoadGen reckons the product in single steps of double: one sample either way.
        assert abs(log.integer("generated_samples_per_query") - wanted) <= 1


@pytest.mark.parametrize(
    ("scenario", "percentile"),
    PERCENTILES,
    ids=[f"{scenario.slug}-p{percentile[:2]}" for scenario, percentile in PERCENTILES],
)
@pytest.mark.parametrize("side", SIDES[:2])
def test_latency(
    side: str, scenario: Scenario, percentile: str, bench: Bench, replay: Replay
) -> None:
    """Server issues every query that it schedules; no stream runs out of queries."""
    logs = measure_logs(bench, scenario)
    kind = "per_query_" if scenario is Scenario.MULTI_STREAM else ""
    key = f"result_{percentile}_percentile_{kind}latency_ns"
    load = f" {SERVER_QPS:,.0f}/s" if scenario is Scenario.SERVER else ""
    replay.report_seconds(
        f"null {scenario.value}{load}, p{percentile[:2]} latency",
        [log.number(key) / 1e9 for log in logs[side]],
        validity=[log.text("result_validity") for log in logs[side]],
    )

    for log in logs["suite"]:
        if scenario is Scenario.SERVER:
            scheduled = SERVER_QPS * SECONDS * bench.scale
            count = log.integer("result_query_count")
            assert count == pytest.approx(scheduled, rel=0.05)
        else:
            assert log.flag("result_min_duration_met")


def test_free_memory() -> None:
    """The largest of these runs fits in memory with room to spare."""
    need = int(1.1 * SECONDS * OFFLINE_RATE) * 300
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert free > 1.5 * need
