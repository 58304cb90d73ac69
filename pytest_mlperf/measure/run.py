"""A task's run, and its verdict; with its power where that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.log_file import close_logs
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.judged_run import run_and_judge
from pytest_mlperf.measure.judged_run import write_verdict
from pytest_mlperf.measure.peak import tune_to_peak
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.plan import plan_task
from pytest_mlperf.measure.power import run_with_power
from pytest_mlperf.measure.repeats import is_repeated
from pytest_mlperf.measure.repeats import repeat_run
from pytest_mlperf.measure.retarget import add_first_run
from pytest_mlperf.measure.retarget import retarget
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import Runner


def run_cell(
    session: MeasureSession,
    runner: Runner,
    placement: Placement,
    cell: Cell,
    mode: Mode,
) -> Verdict:
    """Run LoadGen in the runner and judge what it wrote.

    Raises ``RequirementMissing`` and ``RunFailed``, as ``Runner.run`` does, and
    ``RunRefused``.
    """
    task = make_task_folder(plan_task(session, placement, cell, mode, mode.value))
    return run_task(session, runner, task)


def measure_cell(
    session: MeasureSession, cell: Cell, mode: Mode = Mode.PERFORMANCE
) -> Verdict:
    """Run a cell on a runner of its own and return the verdict.

    Raises ``RequirementMissing``, ``RunFailed`` and ``RunRefused``.
    """
    placement = place(session)
    with open_runner(session, placement) as runner:
        return run_cell(session, runner, placement, cell, mode)


@contextmanager
def open_runner(session: MeasureSession, placement: Placement) -> Iterator[Runner]:
    """Give a runner on these devices, whose log is ``runner.log`` of the session."""
    session.reports.mkdir(parents=True, exist_ok=True)
    runner = Runner(
        stall_s=session.options.stall,
        build_s=session.options.build_timeout,
        log=session.reports / "runner.log",
        environment=placement.environment,
    )
    try:
        yield runner
    finally:
        runner.close()
        close_logs(session.reports)


def run_task(session: MeasureSession, runner: Runner, task: Task) -> Verdict:
    """Run a task, with --mlperf-repeat several times, and return the item's verdict,
    which is in its run's folder too.
    """
    verdict = run_once(session, runner, task)
    if not is_repeated(session.options, task):
        return verdict
    run = partial(run_once, session, runner)
    return repeat_run(session.options, task, verdict, run)


def run_once(session: MeasureSession, runner: Runner, task: Task) -> Verdict:
    """Run a task and write its verdict into its folder.

    With --mlperf-find-peak, a load that was not given is searched before. With
    --mlperf-retarget, an INVALID run is followed by one more, where its remedy has a
    value: the verdict is that one's, and tells of the first.
    """
    keep: Callable[[Verdict], None] = ignore_verdict
    if looks_for_peak(session.options, task):
        task, keep = tune_to_peak(session, runner, task)
    verdict = measure_task(session, runner, task)
    write_verdict(verdict)
    # A power session has applied the remedy where one of its phases could.
    is_open = session.options.retarget and RETARGETED not in verdict.facts
    next_task = retarget(task, verdict) if is_open else None
    if next_task is not None:
        again = measure_task(session, runner, next_task)
        verdict = add_first_run(again, verdict, next_task)
        write_verdict(verdict)
    keep(verdict)
    return verdict


def measure_task(session: MeasureSession, runner: Runner, task: Task) -> Verdict:
    """Run a task and return its verdict. A performance task with --mlperf-power is run
    twice: ranging, then the run that counts.
    """
    if session.options.power and task.mode is Mode.PERFORMANCE:
        return run_with_power(session, runner, task)
    return run_and_judge(session, runner, task)


def ignore_verdict(verdict: Verdict) -> None:
    """Keep nothing of it."""


def looks_for_peak(options: Options, task: Task) -> bool:
    """Return whether a task's load is to be searched."""
    is_open = task.mode is Mode.PERFORMANCE and not task.tuned
    return options.find_peak and is_open and has_peak(task.rule)
