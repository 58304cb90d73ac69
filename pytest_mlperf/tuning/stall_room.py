"""How many queries a Server run asks so that two stalls of the machine are survived.

A stall of a few tenths of a second (a linter on every core, a page cache being written)
makes the queries late that wait meanwhile, at any load. Early stopping allows a share
of late ones: a longer run allows more of them, a lower load does not help.

Two, because a run that allows one is long enough to meet another. Of 12 queries/s a
stall makes 4 late, which 1,157 queries allow for a 99th percentile, in 97 s. Where one
stall comes in two minutes, 17% of such runs meet more; of those with 1,736 queries, in
146 s, 10% meet more than two. With room for none, 60 s and half of all runs.
"""

from __future__ import annotations

import math

from pytest_mlperf.core.early_stopping import count_queries_needed

STALLS = 2
STALL_S = 0.3
"""Seen on a machine of two cores when a linter began to use both of them."""
SHORTEST_S = 30.0
"""Runs below this are too short to survive one, and are not made longer."""
MOST_TIMES = 2.5
"""How much longer than its minimum duration a run may become for that. A shortened one
may take three times as long altogether."""


def count_late_after_stall(qps: float, load: float, room_s: float) -> int:
    """Return how many queries a stall makes late.

    ``load``: ``qps`` as a share of what the system answers; ``room_s``: what the bound
    leaves a query to wait. A query that comes t seconds after the stall began waits
    STALL_S - (1 - load) t, until the line is gone.
    """
    return math.ceil(qps * max(0.0, STALL_S - room_s) / (1 - load))


def count_queries_for_stalls(
    qps: float,
    load: float,
    room_s: float,
    percentile: float,
    duration_s: float,
    limit_s: float | None = None,
) -> int | None:
    """Return how many queries allow the stalls, or as many as a run has the time for.

    None where the minimum duration has enough of them, or is too short. ``limit_s``:
    what no run may pass.
    """
    if duration_s < SHORTEST_S or not 0 < load < 1:
        return None
    late = STALLS * count_late_after_stall(qps, load, room_s)
    longest_s = min(MOST_TIMES * duration_s, limit_s or math.inf)
    needed = min(count_queries_needed(late, percentile), math.floor(qps * longest_s))
    return needed if needed > qps * duration_s else None
