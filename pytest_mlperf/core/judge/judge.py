"""The judge: from a LoadGen folder to a verdict. Nothing else judges a run."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks import accuracy as accuracy_checks
from pytest_mlperf.core.checks import audit as audit_checks
from pytest_mlperf.core.checks import device
from pytest_mlperf.core.checks import latency
from pytest_mlperf.core.checks import metric
from pytest_mlperf.core.checks import result
from pytest_mlperf.core.checks import settings
from pytest_mlperf.core.checks.consistency import generated_queries
from pytest_mlperf.core.checks.context import BOUNDED
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import Judge
from pytest_mlperf.core.checks.context import Run
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.checks.summary import summary_agrees
from pytest_mlperf.core.judge.figures import report
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.rounds import AccuracyLimit
from pytest_mlperf.core.rounds import Round
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

__all__ = ["Context", "judge", "judge_log"]


def judge(
    folder: Path, cell: Cell, mode: Mode, rule: Rule, round_: Round, context: Context
) -> Verdict:
    """Return what the round's rules say of the run that LoadGen logged in a folder.

    Never raises for what is in the folder: a log that cannot be read is a verdict
    with one check in error.
    """
    try:
        log = Log.read(folder)
    except LogError as error:
        verdict = unjudged(folder, cell, mode, round_, context)
        return replace(verdict, checks=(check_unreadable("log", error),))
    return judge_log(log, cell, mode, rule, round_, context)


def judge_log(
    log: Log, cell: Cell, mode: Mode, rule: Rule, round_: Round, context: Context
) -> Verdict:
    """Return what the round's rules say of a log that has been read."""
    verdict = unjudged(log.folder, cell, mode, round_, context)
    run = audit_checks.reseeded(Run(log, cell, mode, rule, round_, context))
    judges = MODES[mode](run)
    checks = tuple(attempt(run, name, judge_one) for name, judge_one in judges)
    return report(run, replace(verdict, checks=checks))


def unjudged(
    folder: Path, cell: Cell, mode: Mode, round_: Round, context: Context
) -> Verdict:
    """Return the verdict of a run before any rule was checked."""
    settings = context.settings
    expected = context.expected_s
    if expected is None and settings is not None:
        expected = settings.expected_s
    return Verdict(
        benchmark=cell.model,
        scenario=cell.scenario.value,
        engine=cell.engine,
        mode=context.audit.name if context.audit else mode.value,
        round=round_.name,
        metric=None,
        checks=(),
        labels=context.labels,
        expected_s=expected,
        actual_s=context.actual_s,
        folder=str(folder),
        build=context.build,
        facts={**context.run.to_texts(), **context.facts},
        run=context.run,
    )


def performance(run: Run) -> Iterator[tuple[str, Judge]]:
    """Yield name and function of every check that a performance run has to pass."""
    rule, asked = run.rule, run.context.settings
    offline = run.scenario is Scenario.OFFLINE
    for judge_one in settings.ALWAYS:
        yield judge_one.__name__, judge_one
    yield "summary_agrees", summary_agrees
    yield "loadgen_validity", result.loadgen_validity
    yield "flags_agree", result.flags_agree
    yield "generated_queries", generated_queries
    yield "wall_time", result.wall_time
    yield (
        "min_duration",
        held(
            "min_duration",
            result.min_duration,
            rule.min_duration_ms,
            asked.min_duration_ms if asked else None,
        ),
    )
    name = "min_sample_count" if offline else "min_query_count"
    count = rule.min_sample_count if offline else rule.min_query_count
    function = getattr(result, name)
    yield name, held(name, function, count, asked.min_query_count if asked else None)
    if not offline:
        yield "early_stopping", latency.early_stopping_check
        yield "target_percentile", settings.target_percentile
        yield "samples_per_query", settings.samples_per_query
    if run.scenario in BOUNDED:
        yield "latency_bound", latency.latency_bound
        yield "target_latency_setting", settings.target_latency_setting
    yield "seeds", settings.seeds
    yield (
        "performance_sample_count",
        held(
            "performance_sample_count",
            settings.performance_sample_count,
            rule.performance_sample_count,
            asked.performance_sample_count if asked else None,
        ),
    )
    yield "issue_modes", settings.issue_modes
    yield "token_latencies", settings.token_latencies
    yield "metric_present", metric.metric_present
    if run.context.claim is not None:
        yield device.NAME, device.on_device


def accuracy(run: Run) -> Iterator[tuple[str, Judge]]:
    """Yield name and function of every check that an accuracy run has to pass."""
    for judge_one in settings.ALWAYS:
        yield judge_one.__name__, judge_one
    yield "whole_dataset", accuracy_checks.whole_dataset
    yield (
        "dataset_size",
        held(
            "dataset_size",
            accuracy_checks.dataset_size,
            run.rule.accuracy_sample_count,
            run.context.dataset_total,
        ),
    )
    for limit in accuracy_checks.limits(run):
        yield f"accuracy_{limit.metric}", aimed(f"accuracy_{limit.metric}", limit)
    yield "accuracy_hash", accuracy_checks.accuracy_hash


def compliance(run: Run) -> Iterator[tuple[str, Judge]]:
    """Yield name and function of every check that a compliance run has to pass."""
    audit = run.context.audit
    if audit and audit.as_performance:
        for name, judge_one in performance(run):
            if name not in audit_checks.ALLOWED:
                yield name, judge_one
    else:
        yield from audit_checks.own(run)
    yield "audit_settings", audit_checks.audit_settings


MODES = {
    Mode.PERFORMANCE: performance,
    Mode.ACCURACY: accuracy,
    Mode.COMPLIANCE: compliance,
}


def aimed(name: str, limit: AccuracyLimit) -> Judge:
    """Return the check of one accuracy metric, which a waiver turns into a report."""

    def judge_one(run: Run) -> Check:
        full = accuracy_checks.accuracy(limit, read_accuracy_txt(run.log.folder))
        reason = run.context.waiver(name)
        if full.status is not Status.FAIL or reason is None:
            return full
        return replace(full, status=Status.WAIVED, remedy=reason)

    return judge_one


def held(
    name: str,
    function: Callable[[Run, int], Check],
    required: int,
    shortened: int | None,
) -> Judge:
    """Return a check that a waiver can soften, never drop.

    Under a waiver the run must still give what the suite itself asked for.
    """

    def judge_one(run: Run) -> Check:
        full = function(run, required)
        reason = run.context.waiver(name)
        if full.status is not Status.FAIL or reason is None or shortened is None:
            return full
        short = function(run, shortened)
        if short.status is not Status.PASS:
            return short
        return replace(full, status=Status.WAIVED, remedy=reason)

    return judge_one


def attempt(run: Run, name: str, judge_one: Judge) -> Check:
    """Return a check's outcome; one that the log cannot answer is in error."""
    try:
        return judge_one(run)
    except LogError as error:
        return check_unreadable(name, error)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Never a crash, whatever a log holds; the fuzz test finds none but the first.
        found = f"numbers that cannot be reckoned with ({error})"
        required, remedy = "LoadGen's own", "repeat the run; the log is wrong"
        return Check(name, Status.ERROR, found, required, DETAIL, remedy)
