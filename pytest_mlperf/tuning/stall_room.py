"""How many queries a Server run asks so that stalls of the machine are survived.

A stall of a few tenths of a second (a linter on every core, a page cache being written)
makes the queries late that wait meanwhile, at any load. Early stopping allows a share
of late ones: a longer run allows more of them, a lower load does not help.

A longer run meets more stalls, too. With one in two minutes, 10 % of the runs meet more
than one in 64 s, which is as long as one takes at 47 queries/s: another would take 52 s
and leave 7 %. At 12 queries/s room for one takes 97 s, in which 19 % meet more; for two
146 s and 12 %. So as many stalls are allowed for as leave a small risk of more.
"""

from __future__ import annotations

import math

from pytest_mlperf.core.early_stopping import count_queries_needed

STALL_S = 0.3
"""Seen on a machine of two cores when a linter began to use both of them."""
STALL_EVERY_S = 120.0
"""Assumed: of four runs of 65 to 95 s on a shared machine, two met one too many."""
RISK = 0.15
"""Share of runs that may meet more stalls than they allow."""
MOST_STALLS = 3
SHORTEST_S = 30.0
"""Runs below this are too short to survive one, and are not made longer."""
MOST_TIMES = 2.5
"""How much longer than its minimum duration a run may become for that. A shortened one
may take three times as long altogether."""


def find_longest_s(duration_s: float, limit_s: float | None = None) -> float:
    """Return how long a run of this minimum duration may become, so that some of its
    queries may be late. ``limit_s``: what no run may pass.
    """
    if duration_s < SHORTEST_S:
        return duration_s
    return min(MOST_TIMES * duration_s, limit_s or math.inf)


def count_late_after_stall(qps: float, load: float, room_s: float) -> int:
    """Return how many queries a stall makes late.

    ``load``: ``qps`` as a share of what the system answers; ``room_s``: what the bound
    leaves a query to wait. A query that comes t seconds after the stall began waits
    STALL_S - (1 - load) t, until the line is gone.
    """
    return math.ceil(qps * max(0.0, STALL_S - room_s) / (1 - load))


def risk_of_more(stalls: int, seconds: float) -> float:
    """Return the share of runs of so many seconds that meet more stalls: Poisson's."""
    mean = seconds / STALL_EVERY_S
    terms = (mean**count / math.factorial(count) for count in range(stalls + 1))
    return 1 - math.exp(-mean) * sum(terms)


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
    late = count_late_after_stall(qps, load, room_s)
    needed = 0
    for stalls in range(1, MOST_STALLS + 1):
        needed = count_queries_needed(stalls * late, percentile)
        if risk_of_more(stalls, max(duration_s, needed / qps)) <= RISK:
            break
    longest_s = find_longest_s(duration_s, limit_s)
    needed = min(needed, math.floor(qps * longest_s))
    return needed if needed > qps * duration_s else None
