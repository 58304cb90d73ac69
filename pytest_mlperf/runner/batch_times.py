"""Batches without LoadGen: how they come, and what they took."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True, slots=True)
class BatchLoad:
    """Which batches, and how they come: one when another is done, or at a rate."""

    size: int
    """Samples of a batch; ``in_units``, pairs instead of groups (``CountsUnits``)."""
    count: int = 1
    outstanding: int = 1
    """Requests that a server has at a time."""
    rate: float = 0.0
    """Requests a second, whatever is outstanding; 0: by what is outstanding."""
    is_poisson: bool = False
    """Requests at a rate come at random."""
    in_units: bool = False

    def draw_due(self) -> tuple[float, ...]:
        """Return the seconds at which the requests of a rate are due, from 0 on."""
        if not self.is_poisson:
            return tuple(number / self.rate for number in range(self.count))
        drawn = random.Random(0)  # the same arrivals every time
        due, at = [], 0.0
        for _ in range(self.count):
            due.append(at)
            at += drawn.expovariate(self.rate)
        return tuple(due)


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What batches took, one after another or several at a time."""

    seconds: tuple[float, ...]
    steps_us: Mapping[str, float] = field(default_factory=dict)
    """Step of a request or batch -> its mean time; empty where nobody tells it."""
    elapsed_s: float = 0.0
    """From the first one's start to the last one's end; 0: their sum."""
    due: tuple[float, ...] = ()
    """When each was due, of requests at a rate: their ``seconds`` count from then."""

    @property
    def per_s(self) -> float:
        """Batches a second."""
        return len(self.seconds) / (self.elapsed_s or sum(self.seconds))
