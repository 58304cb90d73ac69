"""From what a log shows to the setting to change and the value to try next."""

from __future__ import annotations

import math

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.evidence import BOUNDED
from pytest_mlperf.core.evidence import STREAMS
from pytest_mlperf.core.evidence import Run
from pytest_mlperf.core.evidence import ms
from pytest_mlperf.core.types import Scenario


def too_short(run: Run, required_ms: int) -> str:
    """Say how to make the run last long enough."""
    log = run.log
    setting = log.integer("effective_min_duration_ms")
    if setting < required_ms:
        return f"raise min_duration from {setting:,} to {required_ms:,} ms"
    if run.scenario is Scenario.OFFLINE:
        asked = log.number("effective_target_qps")
        actual = log.number("result_samples_per_second")
        # LoadGen sends 1.1 x duration x target_qps samples: the measured rate itself
        # leaves a tenth to spare.
        return (
            f"raise target_qps from {asked:,.6g} to {rate(actual)}: the engine answered"
            f" {actual:,.6g} samples/s, so the query was over too soon"
        )
    if run.scenario in STREAMS and run.rule.percentile:
        measured = log.integer(run.latency_key(run.rule.percentile))
        expected = 1e9 / log.number("effective_target_qps")
        if run.scenario is Scenario.MULTI_STREAM:
            expected *= log.integer("effective_samples_per_query")
        if measured < expected:
            return (
                f"lower the expected latency from {ms(expected)} to {ms(measured)},"
                " the measured percentile: LoadGen ran out of the queries it made"
            )
    return "look for what ended the run early: an error, max_duration, max_query_count"


def over_bound(run: Run) -> str:
    """Say which load to try next where the latency is over the bound."""
    log, limit = run.log, run.rule.target_latency_ns
    if run.context.hopeless:
        return (
            f"{run.context.hopeless}; a lower load would not help: try a"
            " lower precision or a faster device"
        )
    asked = log.number("effective_target_qps")
    fastest = log.integer("result_min_latency_ns")
    if limit is not None and fastest > limit:
        return (
            f"no load meets this bound here: the fastest answer took {ms(fastest)};"
            " try a smaller batch, a lower precision or a faster device"
        )
    then = "then a smaller batch, then fewer streams"
    completed = log.number("result_completed_samples_per_sec")
    if completed < 0.98 * log.number("result_scheduled_samples_per_sec"):
        return (
            f"lower target_qps from {asked:,.6g} to about {rate(0.9 * completed)}: the"
            f" engine completed {completed:,.6g} queries/s of them; {then}"
        )
    share = over_share(run)
    allowed = 1 - (run.rule.percentile or 0.99)
    factor = 0.95 if share is not None and share < 3 * allowed else 0.85
    late = "" if share is None else f": {share:.2%} of the queries were late"
    return (
        f"lower target_qps from {asked:,.6g} to about {rate(factor * asked)}"
        f"{late}; {then}"
    )


def over_share(run: Run) -> float | None:
    """Return the share of queries that LoadGen counted as late; None without one."""
    over = run.log.get("result_overlatency_query_count")
    return over / run.queries if type(over) is int and run.queries else None


def too_few_for_percentile(run: Run, over: int, needed: int) -> str:
    """Say what early stopping still wants, in numbers."""
    queries, percentile = run.queries, run.rule.percentile or 0.99
    if run.scenario in BOUNDED and over > (1 - percentile) * queries:
        return over_bound(run)
    duration = run.log.integer("effective_min_duration_ms")
    longer = math.ceil(duration * 1.05 * needed / max(queries, 1))
    longer = max(longer, duration)
    text = (
        f"{queries:,} queries with {over:,} over the bound prove nothing of the"
        f" {percentile:.1%} percentile yet: {needed:,} are needed,"
        f" {max(needed - queries, 0):,} more; raise min_query_count to {needed:,},"
        f" or min_duration to {longer:,} ms"
    )
    most = early_stopping.effective_percentile(queries, percentile)
    return f"{text}; the estimate is the {most:.3%} percentile" if most else text


def too_few_queries(run: Run, required: int) -> str:
    """Say how to issue enough queries or samples."""
    if run.scenario is Scenario.OFFLINE:
        return f"set min_query_count to {required:,}; Offline reads it as samples"
    return f"set min_query_count to {required:,}, or let the run last longer"


def rate(value: float) -> str:
    """Return a rate to type: three digits, no separators."""
    if value <= 0:
        return "a fraction of a query"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:.{digits}f}" if digits else f"{float(f'{value:.3g}'):.0f}"
