"""The queue that a probe fits, held against queues that are simulated."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.tuning.queue_model import SLOWDOWNS
from pytest_mlperf.tuning.queue_model import LoadChooser
from pytest_mlperf.tuning.queue_model import Queue
from pytest_mlperf.tuning.queue_model import RunLength

FIRST_S = 0.05
QUEUE = Queue(0.1, FIRST_S)
MOST = 8.5


def simulate(queue: Queue, qps: float, queries: int, seed: int) -> list[float]:
    """Return the latencies of random arrivals at one server."""
    random = Random(seed)
    now = free = 0.0
    latencies = []
    for _ in range(queries):
        now += random.expovariate(qps)
        latencies.append(max(free - now, 0.0) + queue.first_s)
        free = max(now, free) + queue.service_s
    return latencies


def choose(
    bound_s: float, length: RunLength, queue: Queue = QUEUE
) -> tuple[float, int, float, float]:
    plan = LoadChooser(bound_s, 0.99, length, MOST).choose(queue)
    assert plan is not None
    return plan.qps, plan.queries, plan.seconds, plan.slowdown


@pytest.mark.parametrize(("load", "waits"), [(0.2, 2), (0.5, 2), (0.5, 4), (0.8, 8)])
def test_the_share_of_late_ones_is_that_of_a_simulated_queue(
    load: float, waits: int
) -> None:
    """Within a third, of 60,000 queries."""
    qps, bound_s = load / QUEUE.service_s, FIRST_S + waits * QUEUE.service_s
    found = simulate(QUEUE, qps, 60_000, seed=1)
    late = sum(latency > bound_s for latency in found) / len(found)

    assert QUEUE.compute_late_share(qps, bound_s) == pytest.approx(late, rel=1 / 3)


def test_an_answer_that_is_late_alone_is_always_late() -> None:
    """And so are those of a service that gets more than it can do."""
    assert QUEUE.compute_late_share(0.01, FIRST_S) == 1.0
    assert QUEUE.compute_late_share(10.0, 100.0) == 1.0


@pytest.mark.parametrize("bound_s", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seconds", [10, 600])
def test_a_run_at_the_load_that_was_chosen_keeps_its_bound(
    bound_s: float, seconds: int
) -> None:
    """In 16 of 20 runs, on a service that has become as slow as it may."""
    qps, queries, _, slowdown = choose(bound_s, RunLength(459, seconds))
    slower = QUEUE.slow_down(slowdown)
    valid = 0
    for seed in range(20):
        found = simulate(slower, qps, queries, seed)
        late = sum(latency > bound_s for latency in found)
        valid += is_proof(queries, late, 0.99)

    assert valid >= 16


@pytest.mark.parametrize("service_s", [1e-6, 1e-4, 1e-3, 3e-3, 1e-2])
def test_a_service_far_faster_than_its_bound_gets_nearly_all_it_takes(
    service_s: float,
) -> None:
    """The share of late ones is smaller than any double; 2 s is llama3.1-8b's."""
    chooser = LoadChooser(2.0, 0.99, RunLength(459, 600), 0.99 / service_s)
    plan = chooser.choose(Queue(service_s, service_s))

    assert plan is not None
    assert plan.slowdown == SLOWDOWNS[0]
    assert plan.qps > 0.9 * chooser.most_qps / plan.slowdown


def test_more_queries_allow_a_late_one_where_that_is_over_sooner() -> None:
    """With little room 662 queries at more load beat 459 of which none may be late."""
    bound_s = FIRST_S + 2 * QUEUE.service_s
    _, queries, seconds, _ = choose(bound_s, RunLength(459))
    _, least, longer, _ = choose(bound_s, RunLength(459, is_fixed=True))

    assert queries > least == 459
    assert seconds < longer


def test_the_most_cautious_load_is_taken_that_is_short_enough() -> None:
    """A run of ten minutes has time for caution; a limit takes some of it."""
    cautious = choose(1.0, RunLength(459, 600))
    hurried = choose(1.0, RunLength(459, 60, limit_s=130))

    assert cautious[3] == SLOWDOWNS[0]
    assert hurried[3] < SLOWDOWNS[0]
    assert hurried[2] <= 130


@given(st.floats(0.02, 0.4), st.floats(0.3, 3.0), st.sampled_from([0, 60, 600]))
@settings(max_examples=10)
def test_a_plan_is_one_that_may_be_valid(
    service_s: float, bound_s: float, seconds: int
) -> None:
    """Enough queries for early stopping, long enough, and no more than the service."""
    length = RunLength(459, seconds)
    queue = Queue(service_s, 0.1)
    plan = LoadChooser(bound_s, 0.99, length, 0.85 / service_s).choose(queue)
    if plan is None:
        assert 0.1 * min(SLOWDOWNS) + 1e-9 >= bound_s or service_s > bound_s / 3
        return

    assert plan.queries >= 459
    assert plan.seconds >= max(seconds, plan.queries / plan.qps) * 0.999
    assert plan.qps * plan.slowdown <= 0.8501 / service_s


def test_a_queue_is_fitted_to_what_a_short_run_has_shown() -> None:
    """Believed twice as quick, it is found again from what its queries waited."""
    shown = sorted(simulate(QUEUE, 5.0, 20_000, seed=2))
    tails = {share: shown[int(share * len(shown))] for share in (0.9, 0.99)}
    believed = Queue(QUEUE.service_s / 2, FIRST_S)
    for _ in range(6):
        believed = believed.fit(5.0, len(shown), tails)

    assert believed.service_s == pytest.approx(QUEUE.service_s, rel=0.15)


def test_a_run_of_few_queries_tells_nothing_of_their_tail() -> None:
    """Of twenty queries three are beyond none of the percentiles that count."""
    assert QUEUE.fit(5.0, 20, {0.9: 9.0, 0.99: 9.0}) == QUEUE
