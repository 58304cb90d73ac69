"""LoadGen's early stopping, from its definition: how sure is a percentile?

A run of n queries of which t are over the bound proves that at least the share p of
all queries is under it, with confidence c, when a true share of exactly p would show
t or fewer over-latency queries with a probability below 1 - c:
``P[Binomial(n, 1 - p) <= t] = I_p(n - t, t + 1) < 1 - c``.
LoadGen fixes c = 0.99 and a tolerance of 0 (loadgen/early_stopping.cc).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

CONFIDENCE = 0.99
AFFORDABLE = 4
"""Longest run to advise, as a multiple of the present one."""


def beta(p: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_p(a, b).

    In logarithms, so that counts of many millions neither underflow nor overflow.
    """
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(p) + b * math.log1p(-p)
    # The fraction converges quickly only on its own side of the mean.
    if p < (a + 1) / (a + b + 2):
        return math.exp(front) * _fraction(p, a, b) / a
    return 1.0 - math.exp(front) * _fraction(1.0 - p, b, a) / b


def _fraction(p: float, a: float, b: float) -> float:
    """Return the continued fraction of I_p(a, b) by the modified Lentz method."""
    tiny = 1e-300
    c = 1.0
    d = 1.0 - (a + b) * p / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    steps = 200 + int(10 * math.sqrt(max(a, b)))
    for m in range(1, steps):
        even = m * (b - m) * p / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * p / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def compute_chance(under: int, over: int, percentile: float) -> float:
    """Return P[at most ``over`` of ``under + over`` are late], were p exactly true."""
    return beta(percentile, under, over + 1)


def is_proof(queries: int, over: int, percentile: float) -> bool:
    """True when ``over`` late ones of ``queries`` are few enough."""
    under = queries - over
    return under > 0 and compute_chance(under, over, percentile) < 1 - CONFIDENCE


@lru_cache(maxsize=4096)
def count_queries_needed(over: int, percentile: float) -> int:
    """Return N(t, p): the fewest queries that prove p with ``over`` late ones."""
    low, high = 0, max(1, math.ceil(over * percentile / (1 - percentile)))
    while not is_proof(high + over, over, percentile):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if is_proof(middle + over, over, percentile):
            high = middle
        else:
            low = middle
    return high + over


def count_most_over(queries: int, percentile: float) -> int | None:
    """Return the largest t with N(t, p) <= ``queries``; None when not even t = 0."""
    if not is_proof(queries, 0, percentile):
        return None
    low, high = 0, max(1, math.ceil(queries * (1 - percentile)))
    while high - low > 1:
        middle = (low + high) // 2
        if is_proof(queries, middle, percentile):
            low = middle
        else:
            high = middle
    return low


def count_discarded(queries: int, percentile: float) -> int | None:
    """Return how many of the highest latencies a stream's estimate leaves out.

    The estimate is the highest that remains. None when the run is too short for one:
    SingleStream and MultiStream need N(1, p) queries.
    """
    most = count_most_over(queries, percentile)
    return None if not most else most - 1


def count_steady_queries(queries: int, over: int, percentile: float) -> int | None:
    """Return how many queries prove the percentile if late ones come as they did.

    A tenth more of them, because that share is an estimate itself. None where a run
    of ``AFFORDABLE`` times the length does not: then too many are late.
    """
    share = 1.1 * over / queries if queries else 1.0
    needed = count_queries_needed(over, percentile)
    most = max(AFFORDABLE * queries, count_queries_needed(0, percentile))
    while share < 1 - percentile and needed <= most:
        again = count_queries_needed(math.ceil(share * needed), percentile)
        if again <= needed:
            return needed
        # In steps of 5 % at least: close to 1 - p the sum converges slowly.
        needed = max(again, math.ceil(1.05 * needed))
    return None


def find_proven_percentile(queries: int, over: int) -> float:
    """Return the highest percentile, as a share, that these late queries prove."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if is_proof(queries, over, middle):
            low = middle
        else:
            high = middle
    return low


def count_late_range(
    queries: int, points: Mapping[float, int], bound: int
) -> tuple[int, int]:
    """Return the fewest and the most queries over a bound that fit the percentiles.

    ``points``: share of the queries -> latency there, as LoadGen takes it from the
    sorted ones: at ``int(queries * share)``, 0 the fastest and 1 the slowest.
    """
    fewest, most = 0, queries
    for share, latency in points.items():
        index = min(int(queries * share), queries - 1)
        if latency > bound:
            fewest = max(fewest, queries - index)
        else:
            most = min(most, queries - index - 1)
    return fewest, most
