"""How many queries are late at a load, and which load ends a run soonest.

A model of a queue for what a probe of seconds cannot see: the one late query in a
thousand. It is fitted to what short runs near the limit have shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from functools import partial

from pytest_mlperf.core.early_stopping import beta
from pytest_mlperf.core.early_stopping import compute_chance
from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.core.early_stopping import count_queries_needed

CHANCE = 0.9
"""Of a run to keep its bound, at the load chosen for it."""
LATE = (0, 1, 2, 3, 5, 8, 13, 21)
"""Late queries that a run may allow itself by asking more of them."""
MOST_LOAD = 0.99
"""Beyond which a queue has no end."""
SLOWDOWNS = (1.5, 1.25, 1.1)
"""How much slower the service may become in the run, most cautious first."""
STEPS = 40
"""Of a bisection: more than a double has bits for here."""
SEEN = 3
"""Queries beyond a percentile of a short run that make it a figure."""


@dataclass(frozen=True, slots=True)
class Queue:
    """One line of random arrivals, a constant time for each request (M/D/1)."""

    service_s: float
    """That a request keeps the next one waiting."""
    first_s: float
    """Latency of a request that finds nobody in line: to its first token, or whole."""

    def compute_late_share(self, qps: float, bound_s: float) -> float:
        """Return the share of requests that take longer than the bound.

        The tail of the waiting time is exponential: P[W > t] is
        (1 - load) / (x + load - 1) * exp(-x t / service), where load = x / (e^x - 1).
        """
        load, room = qps * self.service_s, (bound_s - self.first_s) / self.service_s
        if room <= 0 or load >= 1:
            return 1.0
        x = find_highest(lambda x: x / math.expm1(x) > load, 1e-9, 700.0)
        share = (1 - load) / max(x + load - 1, 1e-9) * math.exp(-x * room)
        return min(1.0, share)

    def slow_down(self, factor: float) -> Queue:
        """Return the same of a service that has become slower."""
        return Queue(self.service_s * factor, self.first_s * factor)

    def fit(self, qps: float, queries: int, tails: Mapping[float, float]) -> Queue:
        """Return the queue that explains a short run's percentiles, half way.

        ``tails``: share of the queries -> latency there in seconds. Half way, because
        some dozens of queries tell little of their own tail.
        """
        shares = [share for share in tails if queries * (1 - share) >= SEEN]
        if not shares:
            return self
        share = max(shares)
        service_s = find_highest(
            lambda s: (
                replace(self, service_s=s).compute_late_share(qps, tails[share])
                < 1 - share
            ),
            self.service_s / 4,
            self.service_s * 4,
        )
        return replace(self, service_s=math.sqrt(self.service_s * service_s))


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long a run has to be, and may be."""

    queries: int = 1
    seconds: float = 0.0
    is_fixed: bool = False
    """True where the user said how many queries."""
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load, and the run that keeps its bound at it."""

    qps: float
    queries: int
    seconds: float
    slowdown: float = 1.0
    """How much slower the service may become for that."""


@dataclass(frozen=True, slots=True)
class LoadChooser:
    """What loads are chosen by."""

    bound_s: float
    percentile: float
    length: RunLength
    most_qps: float
    """That the service takes at all."""

    def choose(self, queue: Queue) -> LoadPlan | None:
        """Return the most cautious load whose run is short enough; None for no load.

        Short enough is as long as the run has to be, or else as long as it may be.
        Where none is, the one that is over first.
        """
        plans = [
            replace(plan, slowdown=factor)
            for factor in SLOWDOWNS
            if (plan := self.plan(queue.slow_down(factor), self.most_qps / factor))
        ]
        for most_s in (1.05 * self.length.seconds, self.length.limit_s):
            for plan in plans:
                if most_s is not None and plan.seconds <= most_s:
                    return plan
        return min(plans, key=lambda plan: plan.seconds, default=None)

    def plan(self, queue: Queue, most_qps: float) -> LoadPlan | None:
        """Return the run that is over soonest; of several, the heaviest load."""
        plans = []
        for over in LATE[:1] if self.length.is_fixed else LATE:
            least = self.length.queries
            if not self.length.is_fixed:
                least = max(least, count_queries_needed(over, self.percentile))
            keeps = partial(self._keeps, queue, least)
            qps = find_highest(keeps, 0.0, most_qps)
            if qps > 0:
                queries = self._count(qps, least)
                seconds = max(self.length.seconds, queries / qps)
                plans.append(LoadPlan(qps, queries, seconds))
        return min(plans, key=lambda plan: (plan.seconds, -plan.qps), default=None)

    def _keeps(self, queue: Queue, least: int, qps: float) -> bool:
        """Return whether a run at a load has its chance to keep the bound."""
        queries = self._count(qps, least)
        over = count_most_over(queries, self.percentile) or 0
        late = queue.compute_late_share(qps, self.bound_s)
        load = min(qps * queue.service_s, MOST_LOAD)
        if compute_chance(queries - over, over, 1 - late) < CHANCE:
            return False
        if not late:  # too small for a double: an answer takes a thousandth of a bound
            return True
        # Late ones come in bursts, so that a run has either few or many of them: a
        # negative binomial whose variance is so many times its mean, as simulated.
        burst = (1 + load) / (1 - load) ** 2
        return beta(1 / burst, late * queries / (burst - 1), over + 1) >= CHANCE

    def _count(self, qps: float, least: int) -> int:
        return max(least, math.ceil(qps * self.length.seconds))


def find_highest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Return about the highest number for which something holds; else ``low``."""
    if holds(high):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
