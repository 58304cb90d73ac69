"""Loads that a Server or Interactive cell was tried at, and what became of them.

A run's ``tuning.json`` lists the trials that led to its load under ``trials``, in the
order in which they were made: a curve of load against latency for whoever draws it.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRIAL, CONFIRMATION = "trial", "confirmation"
"""Kinds of runs: a short one, and one of the whole length."""


@dataclass(frozen=True, slots=True)
class LoadTrial:
    """One run at one load."""

    qps: float
    """Queries a second that LoadGen issued."""
    seconds: float
    """That LoadGen issued them for, at least."""
    latency_share: float
    """Latency at the rule's percentile as a share of its bound: above 1 is too late.
    Of tokens, the worse of the first one's and of the time for each."""
    queries: int | None = None
    late: int | None = None
    """Queries beyond the bound; None where the probe counted none."""
    others_share: float = 0.0
    """Share of the CPUs, 0 to 1, that other programs used meanwhile."""
    is_disturbed: bool = False
    """True where that was too much, or somebody measured beside: the trial decided
    nothing."""
    kind: str = TRIAL
    beside: str = ""
    """The other sessions that measured meanwhile, in words."""

    @property
    def late_share(self) -> float | None:
        """Queries beyond the bound as a share of all."""
        if self.late is None or not self.queries:
            return None
        return self.late / self.queries

    @classmethod
    def read_all(cls, values: Iterable[Mapping[str, Any]]) -> tuple[LoadTrial, ...]:
        """Return the trials of JSON values, as ``dataclasses.asdict`` writes them.

        ``TypeError`` for values that are none.
        """
        return tuple(cls(**one) for one in values)


def estimate_late_share(
    queries: int, points: Mapping[float, float], bound: float
) -> float:
    """Return about which share of the queries is beyond a bound.

    ``points``: share of the queries -> latency there, as LoadGen logs percentiles.
    Between two of them the tail falls as a queue's does, exponentially. For bounds
    whose late queries LoadGen does not count: those of tokens.
    """
    below, above = (0.0, 0.0), None
    for share, latency in sorted(points.items()):
        if latency > bound:
            above = share, latency
            break
        below = share, latency
    if above is None:
        return 0.0
    left, right = 1 - below[0], max(1 - above[0], 1 / (2 * max(queries, 1)))
    width = above[1] - below[1]
    part = (bound - below[1]) / width if width > 0 else 1.0
    return float(left * (right / left) ** part)
