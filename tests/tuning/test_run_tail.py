"""What a short trial says of a longer run's tail, against simulated lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

import numpy as np
import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.early_stopping import compute_chance
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.protocol import Found
from pytest_mlperf.run.tuning_cache import TailTrial
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.queue_model import CHANCE
from pytest_mlperf.tuning.run_tail import extend_tail
from pytest_mlperf.tuning.run_tail import find_allowed_share
from tests.support.doubles import make_task

P = 0.99
TRIAL_S, RUN_S = 10, 60


def simulate(rng: np.random.Generator, qps: float, load: float, seconds: float) -> Any:
    """Return latencies (s) of one line whose answers take between a half and one and a
    half of their mean time.
    """
    count = int(qps * seconds)
    took = rng.uniform(0.5, 1.5, count) * load / qps
    gaps = rng.exponential(1 / qps, count)
    # Lindley: a query waits for what is left of those before it.
    work = np.cumsum(took[:-1] - gaps[1:], dtype=float)
    work = np.concatenate([[0.0], work])
    return work - np.minimum.accumulate(work) + took


def find_point(latencies: Any, share: float) -> tuple[float, float]:
    """Return a point of the tail as LoadGen takes it from the sorted latencies."""
    return 1 - share, float(np.sort(latencies)[int(len(latencies) * share)])


def share_valid(qps: float, load: float, judge: Callable[[Any, int], float]) -> float:
    """Return how many of 300 runs keep the bound that a trial of their load says."""
    rng, kept = np.random.default_rng(7), 0
    for _ in range(300):
        queries = int(qps * RUN_S)
        bound = judge(simulate(rng, qps, load, TRIAL_S), queries)
        late = int((simulate(rng, qps, load, RUN_S) > bound).sum())
        kept += late <= (count_most_over(queries, P) or 0)
    return kept / 300


@pytest.mark.parametrize(("qps", "load"), [(12, 0.4), (20, 0.6), (40, 0.7)])
def test_a_run_of_few_queries_keeps_the_tail_that_a_trial_promises(
    qps: float, load: float
) -> None:
    """In about every second run, as an estimate has it; the trial's own percentile
    promises too much, and four runs of five would be INVALID.
    """

    def extended(trial: Any, queries: int) -> float:
        late = find_allowed_share(queries, P)
        return extend_tail(find_point(trial, 0.9), find_point(trial, P), late)

    assert share_valid(qps, load, extended) > 0.4
    assert share_valid(qps, load, lambda trial, _: find_point(trial, P)[1]) < 0.25


@pytest.mark.parametrize("queries", [459, 700, 5000, 270_336])
@pytest.mark.parametrize("percentile", [0.9, 0.97, 0.99])
def test_the_allowed_share_leaves_the_run_its_chance(
    queries: int, percentile: float
) -> None:
    """And no more than that; many queries may have nearly all that the bound allows."""
    late = find_allowed_share(queries, percentile)
    most = count_most_over(queries, percentile) or 0

    assert compute_chance(queries - most, most, 1 - late) == pytest.approx(CHANCE)
    assert late < 1 - percentile
    assert (late > 0.9 * (1 - percentile)) is (queries > 100_000)


@pytest.mark.parametrize("queries", [0, 10])
def test_too_few_queries_may_have_no_late_one(queries: int) -> None:
    """Early stopping refuses such a run, unless that is waived."""
    assert 0 < find_allowed_share(queries, P) <= 1 - P


def test_an_exponential_tail_is_continued() -> None:
    """10 ms for every tenth; what is nearer than the trial's point is that point."""

    def tail_ms(late: float) -> float:
        return 50 - 10 * math.log10(late)

    def extend(late: float) -> float:
        return extend_tail((0.1, tail_ms(0.1)), (0.01, tail_ms(0.01)), late)

    assert extend(0.0005) == pytest.approx(tail_ms(0.0005))
    assert extend(0.05) == tail_ms(0.01)


def make_trial(task: Task, bound_ms: float = 85.0) -> TailTrial:
    """Return what tries loads for a task; every trial shows the same tail."""
    numbers = {"90.00": 44_000_000.0, "99.00": 70_000_000.0}
    log = SimpleNamespace(
        number=lambda key: numbers[key.removeprefix("result_").partition("_")[0]]
    )

    def run(tuned: Tuned, seconds: float, read: Callable[[Log], Found]) -> Found:
        assert tuned.target_qps
        assert seconds == 10.0
        return read(cast("Log", log))

    return TailTrial(task, run, bound_ms * 1e6)


@pytest.mark.parametrize(
    ("qps", "seconds", "expected_ms"),
    [(12.0, 20, 93.8), (12.0, 60, 73.3), (50_000.0, 60, 70.0)],
)
def test_an_engines_trial_looks_at_its_runs_tail(
    tmp_path: Path, qps: float, seconds: float, expected_ms: float
) -> None:
    """Of the longest run at two thirds of the load: far beyond the trial's percentile
    at a low load, not at a high one. A run that is too short for late queries is not
    made longer.
    """
    task = make_task(tmp_path, scenario=Scenario.SERVER, seconds=seconds)
    found_ns = make_trial(task)(Tuned(Streams(1, 1), 1, target_qps=qps), 10.0)

    assert found_ns / 1e6 == pytest.approx(expected_ms, abs=0.1)


@pytest.mark.parametrize("bound_ms", [85.0, 77.0, 60.0])
def test_a_run_is_as_long_as_its_tail_asks(tmp_path: Path, bound_ms: float) -> None:
    """Of a lower bound it has to have more queries, which may have more late ones; it
    takes two and a half times its minimum duration at most.
    """
    task = make_task(tmp_path, scenario=Scenario.SERVER, seconds=60)
    trial = make_trial(task, bound_ms)
    found_ns = trial(Tuned(Streams(1, 1), 1, target_qps=18.0), 10.0)
    queries = trial.count_queries(12.0, found_ns)
    tail_ms = trial.find_latency_ns(trial.tails[found_ns], queries) / 1e6

    assert 720 <= queries <= 1800
    assert (queries == 720) is (bound_ms == 85.0)
    assert (queries == 1800) is (bound_ms == 60.0)
    assert (tail_ms <= bound_ms) is (bound_ms > 70.0)


def test_a_number_of_queries_that_the_user_gave_is_the_run_s(tmp_path: Path) -> None:
    given = Shortening(60_000, "--mlperf-min-query-count 800", 800)
    task = make_task(tmp_path, scenario=Scenario.SERVER, shortening=given)

    assert make_trial(task).count_range(12.0) == (800, 800)
