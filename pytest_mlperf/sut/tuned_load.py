"""How a cell runs on this machine: as it was given, or as a probe has found."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import Self

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.load_trials import LoadTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedLoad:
    """What LoadGen is told of a cell, whatever answers it, and how that was found."""

    target_qps: float | None = None
    expected_latency_ns: int | None = None
    loop_rate: float | None = None
    """Answers a second of the best closed loop that the probe saw: an engine's, without
    LoadGen, or a service's."""
    note: str = ""
    hopeless: str = ""
    """Why no load keeps the bounds, where the probe found none."""
    probed_share: float | None = None
    """Worst latency of a trial at this load or more as a share of its bound."""
    latency_s: float | None = None
    """A stream's median answer in the probe."""
    queries: int | None = None
    """That the run asks at least, so that one late query is not too many; None: as many
    as it has to."""
    trials: tuple[LoadTrial, ...] = ()
    """That led to the load."""

    @property
    def answer_rate(self) -> float | None:
        """Answers a second of one device or service; of a stream, queries."""
        return 1 / self.latency_s if self.latency_s else self.loop_rate

    def forget_findings(self) -> Self:
        """Return it without what was found out at its load: it is to have another."""
        return replace(self, queries=None, probed_share=None, hopeless="")

    def at_load(self, target_qps: float) -> Self:
        """Return it at another load, of which nothing is known yet."""
        return replace(self.forget_findings(), target_qps=target_qps)


@dataclass(frozen=True, slots=True)
class Tuned(TunedLoad):
    """How an engine answers a cell."""

    streams: Streams
    batch: int
    delay_s: float = 0.0
    preferred: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceTuned(TunedLoad):
    """How a cell asks its service."""

    concurrency: int
