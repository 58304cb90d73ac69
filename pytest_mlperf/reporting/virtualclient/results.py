"""The metrics of one run in all three generations of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_mlperf.reporting.virtualclient.metric import PASS_FAIL
from pytest_mlperf.reporting.virtualclient.metric import VALID_INVALID
from pytest_mlperf.reporting.virtualclient.metric import Generation
from pytest_mlperf.reporting.virtualclient.metric import Relativity
from pytest_mlperf.reporting.virtualclient.metric import VirtualClientMetric
from pytest_mlperf.reporting.virtualclient.metric import is_high_target


@dataclass(frozen=True, slots=True)
class AccuracyValue:
    """One judged figure of an accuracy run."""

    name: str
    """``F1``, ``ROUGE1``; the first of a run needs none in its metrics' names."""
    value: float
    threshold: float
    is_passed: bool


@dataclass(frozen=True, slots=True)
class ConfigResult:
    """What one run of a configuration yielded: its accuracy or its performance."""

    model: str
    config_name: str
    scenario: str
    benchmark: str = ""
    """With its target, ``bert-99``."""
    is_passed: bool | None = None
    """Of an accuracy run; None for a performance run."""
    accuracy: tuple[AccuracyValue, ...] = ()
    is_valid: bool | None = None
    """Of a performance run; None for an accuracy run."""
    performance: tuple[str, float] | None = None
    """LoadGen's key and its value, in the key's own unit."""

    def list_metrics(self) -> Iterator[VirtualClientMetric]:
        """Yield the metrics, generation by generation."""
        yield from self._list_modes()
        yield from self._list_values()
        yield from self._list_short()

    def _list_modes(self) -> Iterator[VirtualClientMetric]:
        for name, good, unit in self._modes():
            yield self._metric(Generation.MODES, f"{self.config_name}-{name}",
                               float(good), unit, Relativity.HIGHER)  # fmt: skip

    def _list_values(self) -> Iterator[VirtualClientMetric]:
        generation = Generation.VALUES
        for number, one in enumerate(self.accuracy):
            # Only the first had a name of its own there, whatever its metric was.
            start = (
                f"{self.config_name}-{one.name}-" if number else self.config_name + "-"
            )
            yield self._metric(generation, f"{start}ThresholdValue", one.threshold)
            yield self._metric(generation, f"{start}AccuracyValue", one.value)
            if one.threshold:
                ratio = one.value / one.threshold
                yield self._metric(generation, f"{start}Accuracy Threshold Ratio",
                                   ratio, "", Relativity.HIGHER)  # fmt: skip
        if self.performance:
            key, value = self.performance
            yield self._metric(generation, f"{self.config_name}-{key}", value)

    def _list_short(self) -> Iterator[VirtualClientMetric]:
        generation = Generation.METADATA
        end = "p99_9" if is_high_target(self.config_name) else "p99"
        for name, good, unit in self._modes():
            yield self._metric(generation, f"{name}_{end}", float(good), unit,
                               Relativity.HIGHER)  # fmt: skip
        for number, one in enumerate(self.accuracy):
            tail = f"{end}_{one.name}" if number else end
            yield self._metric(generation, f"ThresholdValue_{tail}", one.threshold)
            yield self._metric(generation, f"AccuracyValue_{tail}", one.value)
            if one.threshold:
                ratio = one.value / one.threshold
                yield self._metric(generation, f"AccuracyThresholdRatio_{tail}", ratio,
                                   "", Relativity.HIGHER)  # fmt: skip
        if self.performance:
            key, value = self.performance
            kind = name_performance(key)
            better = Relativity.LOWER if "latency" in kind else Relativity.HIGHER
            yield self._metric(generation, f"{kind}_{end}", value, "", better)

    def _modes(self) -> Iterator[tuple[str, bool, str]]:
        if self.is_passed is not None:
            yield "AccuracyMode", self.is_passed, PASS_FAIL
        if self.is_valid is not None:
            yield "PerformanceMode", self.is_valid, VALID_INVALID

    def _metric(
        self,
        generation: Generation,
        name: str,
        value: float,
        unit: str = "",
        relativity: Relativity = Relativity.UNDEFINED,
    ) -> VirtualClientMetric:
        metadata = {
            "config_name": self.config_name,
            "benchmark_short": self.model,
            "benchmark_full": self.benchmark or self.model,
            "scenario": self.scenario,
        }
        if generation is not Generation.METADATA:
            metadata = {}
        return VirtualClientMetric(
            self.model, name, value, unit, relativity, generation, metadata
        )


def name_performance(key: str) -> str:
    """Return what the third generation calls the value of a LoadGen key.

    Tokens have a name of their own; VirtualClient called them samples.
    """
    if "latency" in key:
        return "latency_ns"
    return "tokens_per_second" if "token" in key else "samples_per_second"
