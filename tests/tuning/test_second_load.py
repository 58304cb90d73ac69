"""What a run is asked for that follows one with late queries: load and number."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.tuning.queue_model import Queue
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.queue_model import find_highest
from pytest_mlperf.tuning.second_load import A_LITTLE_LESS
from pytest_mlperf.tuning.second_load import HALF
from pytest_mlperf.tuning.second_load import plan_second_run
from tests.support.queue_double import QueueDouble

P99 = 0.99
FAST = RunLength(queries=459, seconds=60.0, limit_s=180.0)
KEPT = LoadTrial(21.0, 76.0, 0.9, 1596, 9)
"""The percentile, with too few queries to prove it."""
LATE = LoadTrial(20.0, 60.0, 1.02, 1200, 14)


def test_what_kept_the_percentile_gets_the_queries_that_prove_it() -> None:
    plan = plan_second_run(KEPT, 21.0, P99, replace(FAST, limit_s=None))

    assert plan.qps == A_LITTLE_LESS * KEPT.qps
    assert plan.seconds == plan.queries / plan.qps
    assert not is_proof(1596, 9, P99)
    assert is_proof(plan.queries, math.ceil(1.1 * plan.queries * 9 / 1596), P99)


def test_as_many_of_them_are_asked_as_there_is_time_for() -> None:
    """Where late ones that come as they did would still be few enough."""
    length = replace(FAST, limit_s=210.0)
    plan = plan_second_run(KEPT, 21.0, P99, length)
    whole = plan_second_run(KEPT, 21.0, P99, replace(FAST, limit_s=None))

    assert plan.queries == int(plan.qps * 210) < whole.queries
    assert plan.seconds <= 210
    assert is_proof(plan.queries, math.ceil(plan.queries * 9 / 1596), P99)


def test_a_load_stays_where_a_lower_one_has_no_time_for_the_queries() -> None:
    """One late of 580 in 150 s: 180 s are enough for 662 of them at that load."""
    first = LoadTrial(3.87, 150.0, 0.5, 580, 1)
    plan = plan_second_run(first, 3.87, P99, FAST)

    assert plan.qps == first.qps
    assert plan.queries == int(180 * first.qps) >= 662


def test_what_kept_the_percentile_is_not_asked_for_fewer_queries() -> None:
    """A pause makes some late at any load, and of fewer queries fewer may be."""
    nearly = plan_second_run(replace(KEPT, late=15), 21.0, P99, FAST)
    first = LoadTrial(9.98, 150.0, 0.8, 1497, 9)
    short = plan_second_run(first, 9.98, P99, FAST)

    assert nearly.qps == HALF * KEPT.qps
    assert nearly.queries == KEPT.queries
    assert short.qps == A_LITTLE_LESS * first.qps
    assert short.queries == int(180 * short.qps)


@pytest.mark.parametrize(("first", "completed"), [(LATE, 20.0), (LATE, 12.0)])
def test_a_late_run_is_followed_by_one_at_half_its_load(
    first: LoadTrial, completed: float
) -> None:
    """With as many queries; half of what was completed where they piled up."""
    plan = plan_second_run(first, completed, P99, FAST)

    assert plan.qps == HALF * min(completed, first.qps)
    assert plan.queries == min(first.queries or 0, int(180 * plan.qps))
    assert 60 < plan.seconds <= 180


def test_the_fewest_queries_set_how_low_a_load_can_be() -> None:
    """Between half the load and nine tenths; what takes too long even so says so."""
    slow = replace(LATE, qps=4.5, queries=459, late=9)
    fits = plan_second_run(slow, 4.5, P99, FAST)
    slower = replace(slow, qps=2.6)
    refused = plan_second_run(slower, 2.6, P99, FAST)

    assert HALF * slow.qps < fits.qps < A_LITTLE_LESS * slow.qps
    assert fits.queries == 459
    assert fits.seconds <= 180 < refused.seconds
    assert refused.qps == A_LITTLE_LESS * slower.qps


def test_a_number_of_queries_that_the_user_gave_stays() -> None:
    length = RunLength(2000, 60.0, is_fixed=True, limit_s=400.0)
    plan = plan_second_run(replace(KEPT, queries=2000), 21.0, P99, length)

    assert plan.queries == 2000
    assert plan.qps == HALF * KEPT.qps


def test_half_the_load_makes_most_late_runs_valid() -> None:
    """And 5 % less few: of a queue on a machine that became 1.4 to 1.8 times slower, at
    a load that has room for 1.5.
    """
    service_s, bound_s = 0.02, 0.13
    room = partial(
        Queue(service_s, service_s).compute_late_share, bound_s=bound_s / 1.5
    )
    qps = find_highest(lambda qps: room(1.5 * qps) < 0.002, 0.0, 1 / service_s)
    kept = {HALF: 0, 0.95: 0}
    count = 0
    for seed in range(200):
        slowdown = 1.4 + 0.4 * (seed % 10) / 9
        double = QueueDouble(service_s * slowdown, bound_s, seed)
        is_valid, first = double.confirm(qps, 60.0)
        if is_valid:
            continue
        count += 1
        for share in kept:
            seconds = (first.queries or 0) / (share * qps)
            kept[share] += double.confirm(share * qps, seconds)[0]

    assert count > 100
    assert kept[HALF] > 0.9 * count
    assert kept[0.95] < 0.4 * count
