"""What a run's tail will be, from a trial that is too short to show it.

A run of few queries may have hardly any late one. Of 700 queries early stopping allows
one beyond a 99th percentile's bound, so that no more than one in 1,300 of all may be
late. A trial of ten seconds has seen a tenth of that. The tail of a queue is
exponential, though: from the slowest tenth of the queries to the slowest hundredth it
takes as much longer as from there to the slowest thousandth.
"""

from __future__ import annotations

import math

from pytest_mlperf.core.early_stopping import compute_chance
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.tuning.queue_model import CHANCE
from pytest_mlperf.tuning.queue_model import find_highest


def find_allowed_share(queries: int, percentile: float) -> float:
    """Return the share of late queries at which a run still has its chance.

    Little less than ``1 - percentile`` for many queries, a fortieth of that for the
    fewest that early stopping accepts. With fewer still, none may be late.
    """
    most = count_most_over(queries, percentile)
    if most is None:
        most, queries = 0, max(1, queries)
    return find_highest(
        lambda late: compute_chance(queries - most, most, 1 - late) >= CHANCE,
        0.0,
        1 - percentile,
    )


def extend_tail(
    near: tuple[float, float], far: tuple[float, float], late: float
) -> float:
    """Return the latency that a share ``late`` of the queries takes at least.

    ``near``, ``far``: two points of the tail, each a share of late queries, the nearer
    one's being larger, and the latency there.
    """
    (near_late, near_ns), (far_late, far_ns) = near, far
    slope_ns = max(0.0, far_ns - near_ns) / math.log(near_late / far_late)
    return far_ns + slope_ns * max(0.0, math.log(far_late / late))
