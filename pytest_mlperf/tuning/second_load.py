"""The load and the queries of a run that follows an INVALID one.

Only of a load that the probe chose. The next run is the last, so it is asked for less
than the remedy in a verdict: on a simulated machine that became 1.4 to 1.8 times slower
than in its probe, 5 % less load makes a third of the late runs VALID, and half the load
nineteen of twenty.
"""

from __future__ import annotations

import math

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.tuning.queue_model import LoadPlan
from pytest_mlperf.tuning.queue_model import RunLength

A_LITTLE_LESS = 0.8
"""Of a load that kept the percentile, and had too few queries to prove it: pauses make
as many late as before, a queue far fewer."""
HALF = 0.5
"""Of a load that was too much."""


def plan_second_run(
    first: LoadTrial, completed_qps: float, percentile: float, length: RunLength
) -> LoadPlan:
    """Return the run that follows one whose queries were late.

    ``completed_qps``: what the first run completed a second; ``length``: what a run
    has to have, and ``limit_s`` how long it may take. The plan takes longer where
    nothing shorter can be VALID.
    """
    kept = first.latency_share <= 1 and (first.late_share or 0.0) <= 1 - percentile
    plan = _plan_more_queries(first, percentile, length) if kept else None
    # Pauses make queries late at any load: fewer of them are allowed fewer late ones.
    least = (first.queries or 0) if kept and not length.is_fixed else length.queries
    return plan or _plan_less_load(first, completed_qps, length, least)


def _plan_more_queries(
    first: LoadTrial, percentile: float, length: RunLength
) -> LoadPlan | None:
    """Return the run that has queries enough for late ones to come as they did, at the
    first load where a lower one has no time for them; None where that has none either.
    """
    queries, late = first.queries or 0, first.late or 0
    if length.is_fixed:
        return None
    enough = early_stopping.count_steady_queries(queries, late, percentile)
    if enough is None:
        return None
    for qps in (A_LITTLE_LESS * first.qps, first.qps):
        count = min(max(enough, _count_least(qps, length)), _count_most(qps, length))
        expected = round(late * count / queries)
        if early_stopping.count_queries_needed(expected, percentile) <= count:
            return LoadPlan(qps, count, count / qps)
    return None


def _plan_less_load(
    first: LoadTrial, completed_qps: float, length: RunLength, least: int
) -> LoadPlan:
    """Return a run at half the load, with as many queries as before where there is
    time for them; at more than half, where ``least`` of them would take too long.
    """
    qps = HALF * min(first.qps, completed_qps)
    if length.limit_s is not None:
        shortest = 1.01 * least / length.limit_s
        qps = max(qps, min(shortest, A_LITTLE_LESS * first.qps))
    count = _count_least(qps, length)
    if not length.is_fixed:
        count = max(count, min(first.queries or 0, _count_most(qps, length)))
    return LoadPlan(qps, count, max(length.seconds, count / qps))


def _count_least(qps: float, length: RunLength) -> int:
    return max(length.queries, math.ceil(qps * length.seconds))


def _count_most(qps: float, length: RunLength) -> int:
    """Return how many queries there is time for; as many as LoadGen takes, where no
    limit is set.
    """
    return 2**31 if length.limit_s is None else math.floor(qps * length.limit_s)
