"""A session, a runner and a progress line for a command that measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.rig import open_rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.progress import ProgressLine
from pytest_mlperf.reporting.progress import open_line
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed

FAILURES = (BuildFailed, RequirementMissing, RunFailed, RunRefused, ValueError, OSError)
"""What ends a command with a sentence instead of a traceback."""


@dataclass(slots=True)
class Measuring:
    """What a command measures with."""

    rig: Rig
    line: ProgressLine | None = None

    @property
    def session(self) -> MeasureSession:
        return self.rig.session

    def plan(self, cell: Cell, mode: Mode = Mode.PERFORMANCE) -> Task:
        """Return a cell's task; its folder is not made yet."""
        return self.rig.plan(cell, mode, mode.value)

    def run(self, task: Task) -> Verdict:
        """Run a task and return its verdict."""
        return run_task(self.rig, task)

    def tell(self, text: str) -> None:
        """Print a line; the progress line makes way for it."""
        if self.line is None:
            print_text(text)
            return
        with self.line.paused():
            print_text(text)

    def tell_noise(self, share: float) -> bool:
        """Say that other programs used so much of the CPUs, 0 to 1, where it disturbs;
        return whether it does.
        """
        is_noisy = share > QUIET
        if is_noisy:
            self.tell(f"noisy neighbour: other programs used {share:.0%} of the CPUs")
        return is_noisy


@contextmanager
def open_measuring(options: Options) -> Iterator[Measuring]:
    """Start a session of these options, and end it."""
    line = open_line(options.progress, lambda: 0)

    def on_progress(progress: Progress) -> None:
        if line is not None:
            line.report(progress)

    session = MeasureSession.start(options, on_progress=on_progress)
    placement = place(session, options.devices_per_item or 1)
    try:
        with open_rig(session, placement) as rig:
            yield Measuring(rig, line)
    finally:
        if line is not None:
            line.close()
