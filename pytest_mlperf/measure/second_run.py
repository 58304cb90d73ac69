"""The second run of an item whose load was the suite's own choice, and was too much.

Who tries the suite has chosen no load, and a busy machine makes a few queries late that
early stopping does not allow in a short run. So such an item runs once more: with more
queries, or a lower load. A load that somebody gave is never changed.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.remedies import list_best_cases
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import CONSEQUENCES
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.measure.peak_trials import plan_run_length
from pytest_mlperf.measure.peak_trials import read_trial
from pytest_mlperf.measure.retarget import PREFIX
from pytest_mlperf.measure.retarget import Remedy
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved
from pytest_mlperf.tuning.queue_model import LoadPlan
from pytest_mlperf.tuning.queue_model import RunLength
from pytest_mlperf.tuning.second_load import plan_second_run
from pytest_mlperf.tuning.stall_room import MOST_TIMES

LATE = {"early_stopping", "latency_bound", *CONSEQUENCES}
"""Checks that fail where queries were late, and nothing else was wrong."""


def has_own_load(options: Options, task: Task) -> bool:
    """Return whether a run's load is the probe's choice, and free to be another.

    Neither given, nor an earlier run's, nor the peak's. Runs of a submission, under a
    power meter, repeated ones, and those that are ended once they are lost are as they
    were asked for.
    """
    if options.submission or options.power or options.rehearsal:
        return False
    if options.repeat > 1 or options.stop_early:
        return False
    is_probed = task.tuning.target_qps is None and task.tuned is None
    is_plain = task.mode is Mode.PERFORMANCE and task.audit is None
    return is_probed and is_plain and has_peak(task.rule)


def find_own_remedy(task: Task, verdict: Verdict) -> Remedy | None:
    """Return what a run at a load of the suite's own is followed by; None for nothing.

    Raises ``RunRefused`` where there is no time for it.
    """
    if not is_late_alone(verdict):
        return None
    with suppress(OSError, ValueError, LogError):
        folder = Path(verdict.folder)
        log, before = Log.read(folder), saved.read(folder)
        table, context = rounds.get(task.cell.round), Context(run=verdict.run)
        run = JudgedRun(log, task.cell, task.mode, table, context)
        if any(log.get(key, 0) > bound for key, bound, _ in list_best_cases(run)):
            return None  # no load keeps it
        assert before.target_qps, "a probe found a load"
        first = read_trial(log, task, before.target_qps, verdict.run)
        first = replace(first, kind=CONFIRMATION)
        length = plan_length(task, first.seconds)
        plan = plan_second_run(
            first,
            log.number("result_completed_samples_per_sec"),
            task.rule.percentile or 0.99,
            length,
        )
        refuse_long_run(plan, length)
        return Remedy(tune_second(before, first, plan), keeps_load=False)
    return None


def is_late_alone(verdict: Verdict) -> bool:
    """Return whether a run is INVALID for its late queries, and for nothing else."""
    failed = {c.name for c in verdict.checks if c.status is Status.FAIL}
    is_measured = NULL_ANSWERS not in verdict.labels
    return verdict.outcome == "INVALID" and failed <= LATE and is_measured


def plan_length(task: Task, first_s: float) -> RunLength:
    """Return how long the second run has to be, and may be.

    Where no limit is set, it may become as much longer than the first, which took
    ``first_s``, as a run may for its stalls.
    """
    length, shortening = plan_run_length(task), task.shortening
    limit_s = task.time_limit_s or MOST_TIMES * max(length.seconds, first_s)
    is_fixed = bool(shortening and shortening.query_count)
    return replace(length, is_fixed=is_fixed, limit_s=limit_s)


def refuse_long_run(plan: LoadPlan, length: RunLength) -> None:
    """Raise ``RunRefused`` for a run that would take longer than it may."""
    assert length.limit_s is not None, "plan_length() sets one"
    if plan.seconds > length.limit_s:
        allowing = math.ceil(plan.seconds / 60) * 60 + 60
        raise RunRefused(
            f"{plan.queries:,} queries at {plan.qps:.3g}/s would take "
            f"{plan.seconds:,.0f} s, but may take {length.limit_s:,.0f} s: "
            f"--mlperf-time-limit {allowing} allows it"
        )


def tune_second(before: TunedLoad, first: LoadTrial, plan: LoadPlan) -> TunedLoad:
    """Return the second run's tuning, which lists the first run as a trial."""
    changes = []
    if plan.qps != first.qps:
        changes.append(f"target_qps {first.qps:.4g} to {plan.qps:.4g}")
    if plan.queries != first.queries:
        changes.append(f"queries {first.queries:,} to {plan.queries:,}")
    change = PREFIX + ", ".join(changes)
    return replace(
        before,
        target_qps=plan.qps,
        queries=plan.queries,
        hopeless="",
        note=change,
        trials=(*before.trials, first),
    )
