"""Judge a found run, whichever harness wrote it: LoadGen, or the endpoints client."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.checks.rule_check import attempt
from pytest_mlperf.core.endpoints import accuracy
from pytest_mlperf.core.endpoints import performance
from pytest_mlperf.core.endpoints import settings
from pytest_mlperf.core.endpoints.files import is_result
from pytest_mlperf.core.endpoints.rules import MODELS
from pytest_mlperf.core.endpoints.rules import choose_metric
from pytest_mlperf.core.endpoints.rules import find_round_of_seeds
from pytest_mlperf.core.endpoints.rules import find_rounds
from pytest_mlperf.core.endpoints.run import EndpointsRun
from pytest_mlperf.core.endpoints.run import JudgedResult
from pytest_mlperf.core.judge.figures import make_score
from pytest_mlperf.core.judge.figures import put_scores
from pytest_mlperf.core.judge.identify import identify
from pytest_mlperf.core.judge.identify import no_benchmark_check
from pytest_mlperf.core.judge.identify import no_rule_check
from pytest_mlperf.core.judge.identify import verdict_not_judged
from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.logs.discover import add_benchmark
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

Judge = Callable[[JudgedResult], Outcome]
BOTH: dict[str, Judge] = {
    "endpoints_model": settings.check_model,
    "served_model": settings.check_served_model,
    "seeds": settings.check_seeds,
}
PERFORMANCE: dict[str, Judge] = {
    "scenario": settings.check_scenario,
    **BOTH,
    "requested_settings": settings.check_settings_agree,
    "no_errors": performance.check_no_errors,
    "all_completed": performance.check_all_completed,
    "min_duration": settings.check_min_duration,
    "latency_bound": performance.check_latency_bound,
    "metric_present": performance.check_metric,
    "figures_agree": performance.check_story,
    "in_flight": settings.check_in_flight,
}
ACCURACY: dict[str, Judge] = {
    **BOTH,
    "whole_dataset": accuracy.check_whole_dataset,
    "scored_datasets": accuracy.check_configured,
    "dataset_size": accuracy.check_dataset_size,
    "average_accuracy": accuracy.check_average,
}


def identify_run(place: FoundRun, round_name: str = "") -> Verdict:
    """Return the verdict of a found run of either harness.

    ``round_name`` decides the round; without it the seeds do. Raises ``ValueError``
    for an unknown round only.
    """
    try:
        names = {path.name for path in place.path.iterdir()}
    except OSError:
        names = set()
    if place.test or not is_result(place.path, names):
        return identify(place, round_name)
    return identify_result(place, round_name)


def identify_result(place: FoundRun, round_name: str = "") -> Verdict:
    """Return the verdict of an endpoints run."""
    try:
        run = EndpointsRun.read(place.path)
        place = replace(place, mode=run.mode, scenario=place.scenario or run.scenario)
        name, how = choose_round(run, round_name)
        if not place.benchmark and not place.model:
            place = add_benchmark(place, run.config.text("model_params", "name"))
    except LogError as error:
        return verdict_not_judged(place, round_name, check_unreadable("log", error))
    if not place.benchmark:
        return verdict_not_judged(place, name, no_benchmark_check(place))
    if name not in MODELS:
        return verdict_not_judged(place, name, no_round_check(place))
    assert place.scenario is not None
    rule = rounds.get(name).find(place.benchmark, place.target, place.scenario)
    if rule is None:
        return verdict_not_judged(place, name, no_rule_check(place, name))
    table, is_open = rounds.get(name), place.division == "open"
    judged = JudgedResult(run, rule, table, place.scenario, is_open)
    return judge_result(judged, place, f"{name}: {how}")


def choose_round(run: EndpointsRun, round_name: str) -> tuple[str, str]:
    """Return the round that judges a result, and how it was chosen."""
    if round_name:
        return rounds.get(round_name).name, "as asked for"
    by_seeds = find_round_of_seeds(run.config)
    if by_seeds in MODELS:
        return by_seeds, "its seeds are in config.yaml"
    newest = find_rounds()[-1]
    return newest, "the newest that takes endpoints results; the seeds are of no other"


def no_round_check(place: FoundRun) -> Check:
    """Return the error of a result in a round that takes LoadGen's logs alone."""
    found, required = "a result of MLPerf Endpoints", ", ".join(find_rounds())
    remedy = f"pass --round {find_rounds()[-1]}, or run the benchmark with LoadGen"
    required = f"LoadGen's logs: endpoints results are taken by {required}"
    return Check("rule", Status.ERROR, found, required, str(place.path), remedy)


def judge_result(judged: JudgedResult, place: FoundRun, how: str) -> Verdict:
    """Return the verdict of a result whose rule is known."""
    mode = judged.run.mode
    checks = tuple(run_checks(judged))
    verdict = replace(
        verdict_not_judged(place, judged.round.name, checks[0]),
        benchmark=judged.rule.model,
        checks=checks,
    )
    facts = {**verdict.facts, "round": how, "harness": name_harness(judged)}
    fill = add_performance if mode is Mode.PERFORMANCE else add_scores
    verdict = replace(verdict, facts=facts)
    try:
        return fill(judged, verdict)
    except LogError:
        return verdict  # The check of the same value is in error and says so.


def run_checks(judged: JudgedResult) -> Iterator[Check]:
    """Yield the outcome of every check that a result is held to."""
    if judged.run.mode is Mode.ACCURACY:
        yield from run_each(ACCURACY, judged)
        for limit in judged.rule.accuracy:
            name = f"accuracy_{limit.metric}"
            judge = partial(accuracy.check_target, limit=limit)
            (check,) = run_each({name: judge}, judged)
            reason = "open division: accuracy is reported, and held to no target"
            yield waive(check, reason) if judged.is_open else check
        return
    yield from run_each(PERFORMANCE, judged)
    (check,) = run_each({"min_sample_count": performance.check_sample_count}, judged)
    yield waive(check, check.remedy)
    if "TEST09" in judged.rule.compliance and not judged.is_open:
        name = "compliance_output_length"
        yield from run_each({name: performance.check_output_length}, judged)


def run_each(checks: dict[str, Judge], judged: JudgedResult) -> Iterator[Check]:
    """Yield the outcome of each check; what cannot be answered is in error."""
    for name, judge in checks.items():
        yield attempt(name, partial(run_one, name, judge, judged))


def run_one(name: str, judge: Judge, judged: JudgedResult) -> Check:
    return judge(judged).check(name)


def waive(check: Check, reason: str) -> Check:
    """Return a failed check as a rule that the result is not held to."""
    if check.status is not Status.FAIL:
        return check
    return replace(check, status=Status.WAIVED, remedy=reason)


def name_harness(judged: JudgedResult) -> str:
    """Return which client made the result, in words."""
    version, commit = judged.result.find("version"), judged.result.find("git_sha")
    text = "MLPerf Endpoints"
    if judged.run.mode is Mode.PERFORMANCE:
        text += f" {version} @ {commit or 'an unknown commit'}"
    return text


def add_performance(judged: JudgedResult, verdict: Verdict) -> Verdict:
    """Add the figure, the bounded latencies and the time that the run took."""
    summary, rule = judged.result, judged.rule
    keys, unit = choose_metric(rule, judged.scenario)
    value, unit = rule.convert(summary.number(*keys), unit)
    verdict = replace(
        verdict,
        metric=Metric(".".join(keys), value, unit),
        actual_s=summary.number("duration_ns") / 1e9,
    )
    if judged.scenario not in BOUNDED:
        return verdict
    verdict = replace(verdict, percentile=0.99)
    if rule.ttft_ns is None:
        own, limit = make_pair(judged, "latency", rule.target_latency_ns)
        return replace(verdict, at_percentile=own, limit=limit)
    own, limit = make_pair(judged, "ttft", rule.ttft_ns)
    verdict = replace(verdict, at_percentile=own, limit=limit)
    own, limit = make_pair(judged, "tpot", rule.tpot_ns)
    return replace(verdict, tpot=own, tpot_limit=limit)


def make_pair(
    judged: JudgedResult, name: str, bound: int | None
) -> tuple[Metric | None, Metric | None]:
    """Return a measured latency and its bound; None for what is not there."""
    value = performance.read_estimate(judged, name)
    key = ".".join((name, *performance.ESTIMATE))
    own = None if isinstance(value, str) else Metric(key, value / 1e6, "ms")
    return own, None if bound is None else Metric(name, bound / 1e6, "ms")


def add_scores(judged: JudgedResult, verdict: Verdict) -> Verdict:
    """Add the accuracy metrics with their thresholds."""
    measured = [
        (one, accuracy.measure(judged, one.metric)) for one in judged.rule.accuracy
    ]
    found = [
        make_score(one.metric, value, one.threshold)
        for one, value in measured
        if value is not None
    ]
    return put_scores(verdict, found)
