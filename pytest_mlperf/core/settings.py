"""What LoadGen is asked to do: the round's rule, a cell's tuning and the waivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.types import Seeds

OFFLINE_SLACK = 1.1
"""LoadGen's kSlack: it sends so much more than fills the minimum duration."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One LoadGen run, complete: nothing is left to LoadGen's defaults.

    Durations are milliseconds and latencies nanoseconds, as LoadGen logs them.
    """

    model: str
    """LoadGen's model name in mlperf.conf: ``resnet50``, ``bert``."""
    scenario: Scenario
    mode: Mode
    seeds: Seeds
    min_duration_ms: int
    min_query_count: int
    performance_sample_count: int
    target_qps: float | None = None
    """Server: queries per second. Offline: expected samples per second."""
    expected_latency_ns: int | None = None
    """SingleStream and MultiStream: what LoadGen sizes its query list by."""
    target_latency_ns: int | None = None
    """Server's bound; None elsewhere, and where tokens are timed instead."""
    percentile: float | None = None
    """Of the bound (Server) or the reported latency (streams): 0.99."""
    samples_per_query: int = 1
    token_latencies: bool = False
    """LoadGen times first tokens and tokens."""
    ttft_ns: int | None = None
    """Bound on the time to the first token; None where the round has none."""
    tpot_ns: int | None = None
    """Bound on the time per output token after the first."""
    equal_issue: bool = False
    answer_rate: float | None = None
    """Samples (Offline) or queries (streams) a second that the probe has measured."""
    coalesce: bool = False
    """Server: LoadGen hands over the queries that are due in one call."""
    max_duration_ms: int = 0
    waived: Mapping[str, str] = field(default_factory=dict)
    """Check name -> why this run is not held to the round's rule."""
    audit_config: str = ""
    """Text of a compliance test's audit.config, which LoadGen applies last."""
    submitted: Settings | None = None
    """The performance run's settings: its user.conf is an audited run's too."""

    def user_conf(self) -> str:
        """Return the user.conf a submitter would write for this run.

        Only keys that a submission may override are in it; what the round fixes
        (seeds, latency bounds) is set on TestSettings, because LoadGen takes its
        own compiled-in round from anywhere else.
        """
        if self.submitted:
            return self.submitted.user_conf()
        name = self.scenario.loadgen
        keys: dict[str, float | int] = {
            "min_duration": self.min_duration_ms,
            "min_query_count": self.min_query_count,
            "performance_sample_count_override": self.performance_sample_count,
        }
        if self.max_duration_ms:
            keys["max_duration"] = self.max_duration_ms
        if self.target_qps is not None:
            keys["target_qps"] = self.target_qps
        if self.expected_latency_ns is not None:
            keys["target_latency"] = self.expected_latency_ns / 1e6
        if self.coalesce:
            keys["coalesce_queries"] = 1
        lines = [
            f"{self.model}.{name}.{key} = {value!r}" for key, value in keys.items()
        ]
        return "\n".join(
            [*(f"# waived: {k}: {v}" for k, v in self.waived.items()), *lines, ""]
        )

    @property
    def expected_s(self) -> float | None:
        """How long the run should take if the tuning is right; None in accuracy mode.

        Offline asks for more work than fills the minimum duration at the rate it
        expects; streams and Offline go as fast as the probe has seen.
        """
        if self.mode is Mode.ACCURACY:
            return None
        seconds, queries = self.min_duration_ms / 1000, float(self.min_query_count)
        rate = self.answer_rate
        if self.scenario is Scenario.OFFLINE and self.target_qps:
            samples = max(queries, OFFLINE_SLACK * seconds * self.target_qps)
            return samples / (rate or self.target_qps)
        if self.scenario in BOUNDED and self.target_qps:
            return max(seconds, queries / self.target_qps)
        if self.expected_latency_ns:
            rate = rate or 1e9 / self.expected_latency_ns
            if self.equal_issue:  # LoadGen then asks all that it listed
                listed = 2e9 * seconds / self.expected_latency_ns
                return max(queries, listed) / rate
            return max(seconds, queries / rate)
        return seconds
