"""What LoadGen is asked to do: the round's rule, a cell's tuning and the waivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mlperf.core.early_stopping import queries_needed
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

if TYPE_CHECKING:
    # A rule's round holds Seeds, from this module.
    from pytest_mlperf.core.compliance.audit import Audit
    from pytest_mlperf.core.rounds.rule import Rule


@dataclass(frozen=True, slots=True)
class Seeds:
    """A round's three LoadGen seeds (64-bit), and those of TEST05 where it has them."""

    qsl: int
    sample_index: int
    schedule: int
    test05: tuple[int, int, int] | None = None


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

        Offline asks for 1.1 times the work that fills the minimum duration.
        """
        if self.mode is Mode.ACCURACY:
            return None
        seconds = self.min_duration_ms / 1000
        if self.scenario is Scenario.OFFLINE and self.target_qps:
            return max(1.1 * seconds, self.min_query_count / self.target_qps)
        if self.scenario.loadgen == Scenario.SERVER.value and self.target_qps:
            return max(seconds, self.min_query_count / self.target_qps)
        if self.expected_latency_ns:
            return max(seconds, self.min_query_count * self.expected_latency_ns / 1e9)
        return seconds


class Refused(Exception):
    """A run that cannot be started as asked; the text says why and what to change."""


@dataclass(frozen=True, slots=True)
class Shortening:
    """A run made shorter than its round allows, and how to say so."""

    duration_ms: int
    why: str
    """The option that asked for it: ``--fast``."""


def plan(
    rule: Rule,
    seeds: Seeds,
    mode: Mode,
    *,
    available: int,
    shortening: Shortening | None = None,
    target_qps: float | None = None,
    expected_latency_ns: int | None = None,
    audit: Audit | None = None,
) -> Settings:
    """Return the settings of one run, with every departure from the rule waived.

    ``available`` is how many samples the dataset can keep in memory. What the round
    asks and the run does not give is named in ``waived``: it is never passed over.
    """
    waived: dict[str, str] = {}
    duration = rule.min_duration_ms
    # LoadGen reads Offline's query count as samples of its one query.
    queries = max(rule.min_query_count, rule.min_sample_count)
    if shortening and shortening.duration_ms < duration:
        least = enough(rule)
        counts = f"{shortening.why}: {least:,} instead of {queries:,}"
        duration = shortening.duration_ms
        seconds = f"{duration / 1000:g} s instead of {rule.min_duration_ms / 1000:g} s"
        waived["min_duration"] = f"{shortening.why}: {seconds}"
        if least < queries:
            waived["min_query_count"] = counts
        queries = least
        if rule.min_sample_count:
            waived["min_sample_count"] = counts
    samples = rule.performance_sample_count
    if available < samples:
        samples = available
        waived["performance_sample_count"] = (
            f"runs draw from {available:,} samples instead of "
            f"{rule.performance_sample_count:,}"
        )
    found = Settings(
        model=rule.loadgen_model,
        scenario=rule.scenario,
        mode=mode,
        seeds=seeds,
        min_duration_ms=duration,
        min_query_count=queries,
        performance_sample_count=samples,
        target_qps=target_qps,
        expected_latency_ns=expected_latency_ns,
        target_latency_ns=rule.target_latency_ns,
        percentile=rule.percentile,
        samples_per_query=rule.samples_per_query,
        token_latencies=rule.use_token_latencies,
        ttft_ns=rule.ttft_ns,
        tpot_ns=rule.tpot_ns,
        equal_issue=rule.equal_issue,
        # Each latency still counts from its own query's scheduled time. A service is
        # sent its requests one by one, as its users would.
        coalesce=rule.scenario is Scenario.SERVER and not rule.use_token_latencies,
        waived=waived,
    )
    return audited(found, audit) if audit else found


def enough(rule: Rule) -> int:
    """Return the queries of a shortened run: 1, where a run of any length may be VALID.

    LLM servers are slow, and so are queries of eight samples. Early stopping needs so
    many of them whatever the duration: fewer would be INVALID for certain.
    """
    if rule.percentile is None:
        return 1
    if rule.scenario is Scenario.MULTI_STREAM:
        # An estimate of the percentile takes as many as allow one late query.
        return queries_needed(1, rule.percentile)
    if rule.ttft_ns is None:
        return 1
    return queries_needed(0, rule.percentile)


def audited(settings: Settings, audit: Audit) -> Settings:
    """Return a performance run's settings as a compliance test changes them."""
    asked = audit.values
    seeds = settings.seeds
    if audit.seeds:
        seeds = Seeds(*audit.seeds, test05=seeds.test05)
    equal = asked.get("sample_concatenate_permutation", settings.equal_issue)
    return replace(
        settings,
        seeds=seeds,
        min_duration_ms=asked.get("min_duration", settings.min_duration_ms),
        min_query_count=asked.get("min_query_count", settings.min_query_count),
        equal_issue=bool(equal),
        audit_config=audit.config,
        submitted=settings,
    )
