"""The suite's own cost: the null engine through all of it against a bare loop.

Both sides run in a fresh process each time, turn about. Nothing here asserts a speed;
the table at the end says ratio and goal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from perf.ratio import Row
from perf.suite_run import Bench
from perf.suite_run import assert_sound
from perf.suite_run import interleaved
from perf.suite_run import run
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario

Record = Callable[[Row], None]
SECONDS = 3.0
OFFLINE_RATE = 1_500_000.0
"""5 M samples in all, 1.5 GB. A loop that is faster ends before the minimum duration:
INVALID to LoadGen, and a rate all the same."""
SERVER_QPS = 50_000.0
STREAM_NS = {Scenario.SINGLE_STREAM: 2_000, Scenario.MULTI_STREAM: 5_000}
"""LoadGen lists twice the queries that this latency lets expect, so that half of it
is the shortest time between two queries that a run can measure."""
SAMPLES = 256
ROOT = Path(__file__).resolve().parents[1]
Logs = dict[str, list[Log]]


def bare(bench: Bench, scenario: Scenario, rate: float, *, quiet: bool) -> Log:
    """Run the bare loop in a fresh process and return its log."""
    folder = bench.fresh(f"bare-{scenario.slug}")
    command = [sys.executable, "-m", "perf.bare", scenario.value, str(folder)]
    command += ["--seconds", str(SECONDS * bench.scale), "--rate", str(rate)]
    command += ["--samples", str(SAMPLES)]
    command += ["--latency-ns", str(STREAM_NS.get(scenario, 0))]
    command += ["--quiet"] if quiet else []
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)
    log = Log.read(folder)
    assert_sound(log)
    return log


def suite(bench: Bench, scenario: Scenario, rate: float) -> Log:
    """Run the null engine through a fresh runner and return the log."""
    latency = STREAM_NS.get(scenario)
    tuning = Tuning(
        target_qps=None if latency else rate,
        expected_latency_ms=latency / 1e6 if latency else None,
    )
    job = bench.make_task(
        "resnet50", "", scenario, "null", seconds=SECONDS, tuning=tuning
    )
    return run(job).log


def both(bench: Bench, scenario: Scenario, rate: float = 1.0) -> Logs:
    """Return the logs of the suite and of both kinds of bare loop, interleaved."""
    logs: Logs = {"ours": [], "quiet": [], "plain": []}

    def keep(name: str, measure: Callable[[], Log]) -> float:
        logs[name].append(measure())
        return 0.0

    interleaved(
        bench.runs,
        partial(keep, "ours", partial(suite, bench, scenario, rate)),
        partial(keep, "quiet", partial(bare, bench, scenario, rate, quiet=True)),
        partial(keep, "plain", partial(bare, bench, scenario, rate, quiet=False)),
    )
    return logs


def figures(logs: list[Log], key: str, unit: float = 1.0) -> list[float]:
    """Return one value of every log, in ``unit``."""
    return [log.number(key) / unit for log in logs]


def test_offline(bench: Bench, record: Record) -> None:
    """Every sample of one large query is answered, by us and by the bare loop."""
    logs = both(bench, Scenario.OFFLINE, OFFLINE_RATE)

    key = "result_samples_per_second"
    ours = figures(logs["ours"], key, 1000)
    sides = {"bare without gc": "quiet", "bare as Python starts": "plain"}
    for name, side in sides.items():
        base = figures(logs[side], key, 1000)
        goal = 0.9 if side == "quiet" else None
        row = Row(f"null Offline / {name}", "k samples/s", ours, base, at_least=goal)
        record(row)
    wanted = int(1.1 * SECONDS * bench.scale * OFFLINE_RATE)

    for log in logs["ours"]:
        # LoadGen reckons the product in single steps of double: one sample either way.
        assert abs(log.integer("generated_samples_per_query") - wanted) <= 1


def test_server(bench: Bench, record: Record) -> None:
    """Every query that Server schedules at 50,000 a second is issued."""
    logs = both(bench, Scenario.SERVER, SERVER_QPS)

    for name in ("50.00", "99.00"):
        key = f"result_{name}_percentile_latency_ns"
        ours, base = (figures(logs[s], key, 1e6) for s in ("ours", "quiet"))
        verdicts = [log.text("result_validity") for log in logs["ours"]]
        record(
            Row(
                f"null Server 50,000/s p{name[:2]}",
                "ms",
                ours,
                base,
                below=5.0 if name == "99.00" else None,
                note=f"LoadGen at the round's bound: {', '.join(verdicts)}"
                if name == "99.00"
                else "",
            )
        )

    for log in logs["ours"]:
        wanted = SERVER_QPS * SECONDS * bench.scale
        assert pytest.approx(wanted, rel=0.05) == log.integer("result_query_count")


@pytest.mark.parametrize("scenario", STREAM_NS, ids=lambda s: s.slug)
def test_stream(scenario: Scenario, bench: Bench, record: Record) -> None:
    """LoadGen takes its time of every query; none runs out before the duration."""
    logs = both(bench, scenario)

    kind = "per_query_" if scenario is Scenario.MULTI_STREAM else ""
    for name in ("50.00", "90.00"):
        key = f"result_{name}_percentile_{kind}latency_ns"
        ours, base = (figures(logs[s], key, 1e3) for s in ("ours", "quiet"))
        title = f"null {scenario.value} p{name[:2]}"
        record(Row(title, "us", ours, base, at_most=1.3))

    for log in logs["ours"]:
        assert log.flag("result_min_duration_met")


def test_free_memory() -> None:
    """The largest of these runs fits in memory with room to spare."""
    need = int(1.1 * SECONDS * OFFLINE_RATE) * 300
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert 1.5 * need < free
