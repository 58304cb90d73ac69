"""A session's runner, on devices: what everything that measures a task is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine.log_file import close_logs
from pytest_mlperf.measure.observe import Observation
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.plan import plan_task
from pytest_mlperf.measure.progress import show_beat
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import R
from pytest_mlperf.runner.messages import RunnerCommand
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import OnBeat
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.runner.runner import ignore_beat


@dataclass(frozen=True, slots=True)
class Rig:
    """A test rig: the child process on some devices, and how its session measures."""

    session: MeasureSession
    runner: Runner
    placement: Placement

    def with_options(self, options: Options) -> Rig:
        """Return the same rig for other choices of the user."""
        return replace(self, session=replace(self.session, options=options))

    def plan(self, cell: Cell, mode: Mode, name: str) -> Task:
        """Return the task of a cell on these devices, as ``plan_task`` does."""
        return plan_task(self.session, self.placement, cell, mode, name)

    def obey(self, command: RunnerCommand[R]) -> R:
        """Have the runner do a step of a task, as ``Runner.obey`` does, and show it."""
        task, show = command.task, self.session.on_progress
        return self.runner.obey(command, lambda beat: show(show_beat(task, beat)))

    def run(
        self, task: Task, observation: Observation, on_beat: OnBeat = ignore_beat
    ) -> RunResult:
        """Run a task, as ``Runner.run`` does, and show each heartbeat to observers and
        user before ``on_beat`` sees it.
        """

        def see(beat: Heartbeat) -> None:
            self.session.on_progress(show_beat(task, observation.see(beat)))
            on_beat(beat)

        return self.runner.run(task, see)


@contextmanager
def open_rig(session: MeasureSession, placement: Placement) -> Iterator[Rig]:
    """Give a rig on these devices; ``runner.log`` of the session is its log."""
    session.reports.mkdir(parents=True, exist_ok=True)
    runner = Runner(
        stall_s=session.options.stall,
        build_s=session.options.build_timeout,
        log=session.reports / "runner.log",
        environment=placement.environment,
    )
    try:
        yield Rig(session, runner, placement)
    finally:
        runner.close()
        close_logs(session.reports)
