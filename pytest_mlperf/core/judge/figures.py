"""What a verdict reports beside its checks: figures, bounds and times of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_mlperf.core.catalog.metrics import METRICS
from pytest_mlperf.core.checks import accuracy
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import read_elapsed_s
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Score
from pytest_mlperf.core.verdict import Verdict


def add_figures(run: JudgedRun, verdict: Verdict) -> Verdict:
    """Return the verdict with figure, bound and times, as far as the log has them."""
    figure = add_scores if run.mode is Mode.ACCURACY else add_performance
    audit = run.context.audit
    measured = audit is None or audit.as_performance
    for fill in (add_times, figure) if measured else (add_times,):
        try:
            verdict = fill(run, verdict)
        except LogError:
            continue  # The check of the same value is in error and says so.
    return verdict


def add_times(run: JudgedRun, verdict: Verdict) -> Verdict:
    """Add how long the run really took."""
    return replace(verdict, actual_s=read_elapsed_s(run.log))


def add_performance(run: JudgedRun, verdict: Verdict) -> Verdict:
    """Add the reported figure, the bound and the latency measured at its percentile."""
    log, rule = run.log, run.rule
    value, unit = rule.convert(log.number(rule.result_key), rule.unit)
    verdict = replace(verdict, metric=Metric(rule.result_key, value, unit))
    if rule.use_token_latencies:
        verdict = replace(verdict, unjudged=read_unjudged(run))
    if rule.percentile is None:
        return verdict
    key, bound = run.latency_key(rule.percentile), rule.target_latency_ns
    bound_key = "target_latency_ns"
    if rule.ttft_ns is not None:
        key = FIRST_TOKEN_LATENCY.format(format_share(rule.percentile))
        bound, bound_key = rule.ttft_ns, "ttft_ns"
    if rule.tpot_ns is not None:
        tokens = TOKEN_LATENCY.format(format_share(rule.percentile))
        measured = Metric(tokens, log.number(tokens) / 1e6, "ms")
        verdict = replace(
            verdict,
            # Answers of one token have none, and LoadGen writes less than nothing.
            tpot=measured if measured.value >= 0 else None,
            tpot_limit=Metric("tpot_ns", rule.tpot_ns / 1e6, "ms"),
        )
    return replace(
        verdict,
        percentile=rule.percentile,
        at_percentile=Metric(key, log.number(key) / 1e6, "ms"),
        limit=None if bound is None else Metric(bound_key, bound / 1e6, "ms"),
    )


def read_unjudged(run: JudgedRun) -> dict[str, Metric]:
    """Return figures of an LLM server that no rule of this scenario bounds."""
    log, rule, ns = run.log, run.rule, 1e-6
    share = f"{(rule.percentile or 0.99) * 100:.2f}_percentile"
    name = f"p{(rule.percentile or 0.99) * 100:g}"
    each = {
        f"TTFT {name}": (f"result_first_token_{share}_latency_ns", ns, "ms"),
        f"TPOT {name}": (f"result_time_per_output_token_{share}_ns", ns, "ms"),
        f"end-to-end {name}": (f"result_{share}_latency_ns", ns, "ms"),
    }
    if rule.ttft_ns is not None:
        each = {k: v for k, v in each.items() if k.startswith("end")}
        each["answered"] = ("result_completed_samples_per_sec", 1, "queries/s")
    elif run.scenario is Scenario.OFFLINE:
        each = {"answered": ("result_samples_per_second", 1, "samples/s")}
    else:
        key = "result_token_throughput_with_loadgen_overhead"
        each["generated"] = (key, 1, "tokens/s")
    found = {
        label: Metric(key, log.number(key) * factor, unit)
        for label, (key, factor, unit) in each.items()
        if key in log.values and log.number(key) >= 0
    }
    return {label: m for label, m in found.items() if m.key != rule.result_key}


def add_scores(run: JudgedRun, verdict: Verdict) -> Verdict:
    """Add the accuracy metrics with their thresholds."""
    limits = accuracy.find_limits(run)
    own = [one.metric for one in limits]
    measured = read_accuracy_txt(run.log.folder, own=own).metrics
    found = [
        make_score(one.metric, measured[one.metric], one.threshold)
        for one in limits
        if one.metric in measured
    ]
    return put_scores(verdict, found)


def make_score(metric: str, value: float, threshold: float) -> Score:
    """Return a score with the unit of its metric."""
    known = METRICS.get(metric)
    return Score(metric, value, threshold, "%" if known and known.is_percent else "")


def put_scores(verdict: Verdict, scores: Sequence[Score]) -> Verdict:
    """Return the verdict with its scores; the first one is its figure."""
    if not scores:
        return verdict
    first = scores[0]
    return replace(
        verdict,
        scores=tuple(scores),
        metric=Metric(first.metric, first.value, first.unit),
        limit=Metric(f"{first.metric}_threshold", first.threshold, first.unit),
    )
