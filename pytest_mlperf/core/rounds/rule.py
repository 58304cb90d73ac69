"""The shape of a round: one rule per benchmark, target and scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.types import Seeds

NANOSECONDS = {"ms": 1e6, "s": 1e9}


@dataclass(frozen=True, slots=True)
class AccuracyLimit:
    """What one accuracy metric has to reach, in the unit accuracy.txt prints."""

    metric: str
    """Name of the pattern that finds it in accuracy.txt: ``F1``, ``acc``."""
    reference: float
    """Value of the fp32 reference; 0 where the round sets only an upper limit."""
    ratio: float
    """Share of the reference that is enough: 0.99."""
    upper: float | None = None
    """Largest value that counts, for metrics that can be too high."""

    @property
    def threshold(self) -> float:
        """The smallest value that passes; equality passes."""
        return self.reference * self.ratio

    def against(self, reference: float) -> AccuracyLimit:
        """Return the same limit for another reference (an embedded stand-in)."""
        upper = self.upper
        if upper is not None and self.reference:
            upper = upper / self.reference * reference
        return replace(self, reference=reference, upper=upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one round asks of one benchmark, target and scenario.

    Durations are milliseconds and latencies nanoseconds, as LoadGen logs them.
    """

    benchmark: str
    target: str
    scenario: Scenario
    round: str
    loadgen_model: str
    """LoadGen's model name in mlperf.conf: ``resnet50``, ``bert``."""
    categories: frozenset[str]
    """Where the scenario may be submitted: ``edge``, ``datacenter``, or
    ``datacenter_edge`` for a system that enters both."""
    required_in: frozenset[str]
    """The categories in which a submission must contain it."""
    min_duration_ms: int
    min_query_count: int
    """What the round's mlperf.conf yields; Offline reads it as samples."""
    min_sample_count: int
    """Samples that one Offline query must hold at least; 0 elsewhere."""
    performance_sample_count: int
    """Samples that must be in memory during a performance run, at least."""
    dataset_size: int
    accuracy_sample_count: int
    """Samples that an accuracy run answers: the dataset unless the round says other."""
    target_latency_ns: int | None = None
    """Server's bound on the latency at ``percentile``."""
    percentile: float | None = None
    """Of the bounded (Server) or the reported (streams) latency: 0.99."""
    samples_per_query: int = 1
    ttft_ns: int | None = None
    """Bound on the time to the first token at ``percentile``."""
    tpot_ns: int | None = None
    """Bound on the time per output token at ``percentile``."""
    use_token_latencies: bool = False
    equal_issue: bool = False
    early_stopping: bool = True
    """False: min_query_count decides alone, as before v2.0."""
    result_key: str = ""
    """Key of mlperf_log_detail.txt that holds the reported figure."""
    unit: str = ""
    """Of the figure as LoadGen logs it: ``ns``, ``queries/s``, ``samples/s`` …"""
    shown_unit: str = "ms"
    """Of a latency that is the figure, as the round publishes it: ``ms``, ``s``."""
    accuracy: tuple[AccuracyLimit, ...] = ()
    compliance: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Where the numbers were read, and why where sources disagree."""

    @property
    def model(self) -> str:
        """Benchmark and target as one name: ``bert-99.9``, ``resnet50``."""
        return f"{self.benchmark}-{self.target}" if self.target else self.benchmark

    def convert(self, value: float, unit: str) -> tuple[float, str]:
        """Return a figure in the unit that the round publishes it in."""
        if unit != "ns":
            return value, unit
        return value / NANOSECONDS[self.shown_unit], self.shown_unit


@dataclass(frozen=True, slots=True)
class Round:
    """A version of the rules."""

    name: str
    """``v6.1``."""
    seeds: Seeds
    rules: tuple[Rule, ...]
    sources: Mapping[str, str]
    """Topic -> document, tag and table that the numbers were read from."""
    loadgen_since: str = ""
    """The oldest LoadGen of the round: date of its commit, ``2024-04-01``."""

    def find(self, benchmark: str, target: str, scenario: Scenario) -> Rule | None:
        """Return the rule, or None when the round does not have that combination."""
        wanted = (benchmark, target, scenario)
        for rule in self.rules:
            if (rule.benchmark, rule.target, rule.scenario) == wanted:
                return rule
        return None
