"""Can a run whose queries are late still become VALID? Asked while it goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_mlperf.core.early_stopping import count_most_over
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Scenario

SIGMAS = 6.0
"""A Poisson schedule has so many standard deviations more queries than its mean in one
run of a thousand million."""


@dataclass(frozen=True, slots=True)
class LatencySoFar:
    """A latency's percentile of the queries that were answered until now."""

    name: str
    """``latency``, ``TTFT`` or ``TPOT``."""
    percentile: float
    """A share: 0.99."""
    value_ns: int
    bound_ns: int | None = None
    """None where the latency is the result and nothing bounds it (streams)."""
    late: int = 0
    """Queries that are over the bound beyond doubt."""
    most_late: int | None = None
    """As many may be late in a VALID run of ``queries``."""
    queries: int = 0
    """The most that the run can have."""

    @property
    def is_lost(self) -> bool:
        """True where no end of the run makes it VALID."""
        return self.most_late is not None and self.late > self.most_late

    def __str__(self) -> str:
        name = "" if self.name == "latency" else f"{self.name} "
        text = f"{name}p{self.percentile * 100:g} {self.value_ns / 1e6:.3g}"
        if self.bound_ns is not None:
            text += f" of {self.bound_ns / 1e6:g}"
        return f"{text} ms"

    def describe_loss(self) -> str:
        """Return why the run cannot become VALID."""
        return (
            f"{self.late:,} queries or more are late ({self}), and of at most "
            f"{self.queries:,} no more than {self.most_late or 0:,} may be"
        )


def count_most_queries(settings: Settings) -> int | None:
    """Return the most queries that a Server run can have; None for other scenarios.

    LoadGen issues until minimum count and duration are both reached, by a schedule
    whose gaps are exponential (loadgen.cc, ``GenerateQueries`` and ``IssueQueries``);
    with equal issue all that it listed, of twice the duration and a whole set of
    samples.
    """
    if settings.target_qps is None or settings.scenario is Scenario.OFFLINE:
        return None
    due = settings.target_qps * settings.min_duration_ms / 1000
    if settings.equal_issue:
        due = 2 * due + settings.performance_sample_count
    return max(settings.min_query_count, math.ceil(due + SIGMAS * math.sqrt(due) + 1))


def count_most_late(queries: int, percentile: float, *, must_prove: bool) -> int:
    """Return how many of so many queries may be late in a VALID run.

    The percentile is the latency at place ``int(queries * percentile)`` of the sorted
    ones (loadgen/results.cc), which has to be in time; with early stopping the late
    ones must be so few that they prove it. Both grow with the queries.
    """
    most = max(0, queries - int(queries * percentile) - 1)
    proven = count_most_over(queries, percentile) if must_prove else None
    return most if proven is None else min(most, proven)
