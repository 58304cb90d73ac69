"""Observes how even a run's rate is: what a comparison takes for its noise."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.sampler import MEASURED

PERIOD_S = 1.0
LEAST = 5
"""Seconds of a run, below which their spread says nothing."""


@dataclass(slots=True)
class ObservedRates:
    """Samples a second, for each second of the measured phase but its last."""

    rates: list[float] = field(default_factory=list)
    _seen: tuple[float, int] | None = None

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Take a second's rate."""
        if heartbeat.step != MEASURED:
            return
        now = time.monotonic()
        if self._seen is None:
            self._seen = now, heartbeat.completed
            return
        began, completed = self._seen
        if now - began >= PERIOD_S:
            self.rates.append((heartbeat.completed - completed) / (now - began))
            self._seen = now, heartbeat.completed

    @property
    def facts(self) -> dict[str, str]:
        return {}

    @property
    def error(self) -> float:
        """The standard error of the mean rate, as a share of it; 0 if unknown."""
        mean = statistics.fmean(self.rates) if len(self.rates) >= LEAST else 0.0
        if mean <= 0:
            return 0.0
        return statistics.stdev(self.rates) / mean / math.sqrt(len(self.rates))

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with the error of the mean rate."""
        return replace(facts, rate_error=self.error)


class Rates:
    """An ``Observer`` of a run's rate."""

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedRates]:
        del task
        yield ObservedRates()
