"""A task's run, and its verdict; with its power where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import NOT_REPEATED
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.judged_run import run_and_judge
from pytest_mlperf.measure.judged_run import write_verdict
from pytest_mlperf.measure.peak import tune_to_peak
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.power import run_with_power
from pytest_mlperf.measure.repeats import is_repeated
from pytest_mlperf.measure.repeats import repeat_run
from pytest_mlperf.measure.retarget import PREFIX
from pytest_mlperf.measure.retarget import add_first_run
from pytest_mlperf.measure.retarget import describe_first_run
from pytest_mlperf.measure.retarget import find_remedy
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.rig import open_rig
from pytest_mlperf.measure.second_run import find_own_remedy
from pytest_mlperf.measure.second_run import has_own_load
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import Task


def measure_cell(
    session: MeasureSession, cell: Cell, mode: Mode = Mode.PERFORMANCE
) -> Verdict:
    """Run a cell on a runner of its own and return the verdict.

    Raises ``RequirementMissing``, ``RunFailed`` and ``RunRefused``.
    """
    with open_rig(session, place(session)) as rig:
        return run_task(rig, make_task_folder(rig.plan(cell, mode, mode.value)))


def run_task(rig: Rig, task: Task) -> Verdict:
    """Run a task, with --mlperf-repeat several times, and return the item's verdict,
    which is in its run's folder too.
    """
    options, verdict = rig.session.options, run_once(rig, task)
    if not is_repeated(options, task):
        return verdict
    return repeat_run(options, task, verdict, partial(run_once, rig))


def run_once(rig: Rig, task: Task) -> Verdict:
    """Run a task and write its verdict into its folder.

    With --mlperf-find-peak, a load that was not given is searched before. A run that
    was late at a load of the suite's own, and with --mlperf-retarget every INVALID one
    whose remedy is a value, is followed by one more: the verdict is that one's, and
    tells of the first.
    """
    options = rig.session.options
    keep: Callable[[Verdict], None] = ignore_verdict
    if looks_for_peak(options, task):
        task, keep = tune_to_peak(rig, task)
    verdict = measure_task(rig, task)
    write_verdict(verdict)
    if verdict.outcome == "INVALID":
        verdict = run_second(rig, task, verdict)
        write_verdict(verdict)
    keep(verdict)
    return verdict


def run_second(rig: Rig, task: Task, first: Verdict) -> Verdict:
    """Run an INVALID run's task by its remedy, and return that verdict; the first one
    where there is no remedy, or no time for it.
    """
    options = rig.session.options
    try:
        if has_own_load(options, task):
            remedy = find_own_remedy(task, first)
        # A power session has applied the remedy where one of its phases could.
        elif options.retarget and RETARGETED not in first.facts:
            remedy = find_remedy(task, first)
        else:
            return first
    except RunRefused as refused:
        told = f"no second run: {refused}"
        return replace(first, facts={**first.facts, NOT_REPEATED: told})
    if remedy is None:
        return first
    second = replace(make_task_folder(task), tuned=remedy.tuned)
    told = describe_first_run(remedy.note.removeprefix(PREFIX), first)
    verdict = measure_task(announce(rig, told), second)
    return add_first_run(verdict, first, second)


def announce(rig: Rig, again: str) -> Rig:
    """Return the rig, whose progress says what this run follows."""
    session = rig.session
    show = session.on_progress
    told = replace(session, on_progress=lambda one: show(replace(one, again=again)))
    return replace(rig, session=told)


def measure_task(rig: Rig, task: Task) -> Verdict:
    """Run a task and return its verdict. A performance task with --mlperf-power is run
    twice: ranging, then the run that counts.
    """
    if rig.session.options.power and task.mode is Mode.PERFORMANCE:
        return run_with_power(rig, task)
    return run_and_judge(rig, task)


def ignore_verdict(verdict: Verdict) -> None:
    """Keep nothing of it."""


def looks_for_peak(options: Options, task: Task) -> bool:
    """Return whether a task's load is to be searched."""
    is_open = task.mode is Mode.PERFORMANCE and task.tuned is None
    return options.find_peak and is_open and has_peak(task.rule)
