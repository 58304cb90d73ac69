"""From a rule to what LoadGen is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.types import Seeds

if TYPE_CHECKING:
    from pytest_mlperf.core.compliance.audit import Audit


@dataclass(frozen=True, slots=True)
class Shortening:
    """A run made shorter than its round allows, and how to say so."""

    duration_ms: int | None
    """None keeps the round's."""
    why: str
    """The options that asked for it: ``--fast``."""
    query_count: int | None = None
    """None asks for as few as can be VALID."""


def plan_settings(
    rule: Rule,
    seeds: Seeds,
    mode: Mode,
    *,
    available: int,
    shortening: Shortening | None = None,
    target_qps: float | None = None,
    expected_latency_ns: int | None = None,
    answer_rate: float | None = None,
    queries: int | None = None,
    audit: Audit | None = None,
) -> Settings:
    """Return the settings of one run, with every departure from the rule waived.

    ``available`` is how many samples the dataset can keep in memory. What the round
    asks and the run does not give is named in ``waived``: it is never passed over.
    ``answer_rate``: as the probe measured it; ``queries``: at which the probe's load
    allows late ones, unless the user said how many.
    """
    duration_ms, least, waived = plan_length(rule, shortening)
    if queries and not (shortening and shortening.query_count):
        least = max(least, queries)
    samples = rule.performance_sample_count
    if available < samples:
        samples = available
        waived["performance_sample_count"] = (
            f"runs draw from {available:,} samples instead of "
            f"{rule.performance_sample_count:,}"
        )
    settings = Settings(
        model=rule.loadgen_model,
        scenario=rule.scenario,
        mode=mode,
        seeds=seeds,
        min_duration_ms=duration_ms,
        min_query_count=least,
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
        answer_rate=answer_rate,
        # Each latency still counts from its own query's scheduled time. A service is
        # sent its requests one by one, as its users would.
        coalesce=rule.scenario is Scenario.SERVER and not rule.use_token_latencies,
        waived=waived,
    )
    return apply_audit(settings, audit) if audit else settings


def plan_length(
    rule: Rule, shortening: Shortening | None
) -> tuple[int, int, dict[str, str]]:
    """Return a run's milliseconds and queries, and the checks that this waives."""
    waived: dict[str, str] = {}
    duration_ms = rule.min_duration_ms
    # LoadGen reads Offline's query count as samples of its one query.
    queries = max(rule.min_query_count, rule.min_sample_count)
    enough = count_enough_queries(rule)
    least = max(queries, enough)
    if shortening is None:
        return duration_ms, least, waived
    if (shortening.duration_ms or duration_ms) < duration_ms:
        least = enough
        duration_ms = shortening.duration_ms or duration_ms
        seconds = f"{duration_ms / 1000:g} s instead of"
        seconds += f" {rule.min_duration_ms / 1000:g} s"
        waived["min_duration"] = f"{shortening.why}: {seconds}"
    least = shortening.query_count or least
    counts = f"{shortening.why}: {least:,} instead of {queries:,}"
    if least < queries:
        waived["min_query_count"] = counts
    if least < rule.min_sample_count:
        waived["min_sample_count"] = counts
    return duration_ms, least, waived


def count_enough_queries(rule: Rule) -> int:
    """Return the fewest queries of a run that may be VALID, however long it lasts.

    Early stopping needs so many: with none of them late under a bound (Server); for a
    stream's estimate of a percentile, as many as allow one late query. Offline has one.
    """
    if rule.percentile is None:
        return 1
    return count_queries_needed(int(rule.scenario in STREAMS), rule.percentile)


def apply_audit(settings: Settings, audit: Audit) -> Settings:
    """Return a performance run's settings as a compliance test changes them."""
    asked = audit.values
    equal = asked.get("sample_concatenate_permutation", settings.equal_issue)
    return replace(
        settings,
        seeds=audit.test.seeds(settings.seeds) or settings.seeds,
        min_duration_ms=asked.get("min_duration", settings.min_duration_ms),
        min_query_count=asked.get("min_query_count", settings.min_query_count),
        equal_issue=bool(equal),
        audit_config=audit.config,
        submitted=settings,
    )
