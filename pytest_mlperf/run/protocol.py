"""What the phases of a task drive: an engine, a group of devices, or a service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol
from typing import TypeVar

from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.protocol import SUT
from pytest_mlperf.sut.protocol import SampleLibrary
from pytest_mlperf.sut.tuned_load import TunedLoad

T = TypeVar("T", bound=TunedLoad)
T_contra = TypeVar("T_contra", bound=TunedLoad, contravariant=True)
Found = TypeVar("Found")


class ShortRun(Protocol[T_contra]):
    """A short real run of a task, for a probe."""

    def __call__(
        self, tuned: T_contra, seconds: float, read: Callable[[Log], Found], /
    ) -> Found:
        """Run LoadGen for so many seconds and return what was read of its log."""


class Backend(Protocol[T]):
    """Keeps workload, build or server, and tuning between the tasks of a runner."""

    def reserve(self, task: Task) -> AbstractContextManager[None]:
        """Hold what only one task may have, while the block runs.

        After an exception in the block the backend is as new.
        """

    def open(self, task: Task) -> Workload:
        """Open the task's workload. Raises ``RequirementMissing``."""

    def choose_precision(self, task: Task) -> Task:
        """Return the task with the precision that it is run in."""

    def build(self, task: Task) -> Built:
        """Build the engine, or have a server that answers; untimed.

        Raises ``RequirementMissing``, ``BuildFailed``, ``RunRefused``.
        """

    @property
    def samples(self) -> SampleLibrary:
        """What LoadGen loads, once something is built."""

    @property
    def tuning(self) -> type[T]:
        """What ``tune`` returns."""

    def tune(
        self, task: Task, settings: Callable[[T], Settings], run: ShortRun[T]
    ) -> T:
        """Return how the task runs, found once."""

    def sut(
        self,
        task: Task,
        tuned: T,
        settings: Settings,
        fail: Callable[[BaseException], None],
    ) -> AbstractContextManager[SUT]:
        """Open the system under test."""

    def warm_up(self, task: Task, tuned: T) -> None:
        """Run what a run begins with, untimed; the system under test is open."""

    def facts(self, task: Task, tuned: T) -> RunFacts:
        """Return what a run showed, while the system under test is open."""

    def finish(self, task: Task, result: RunResult) -> RunResult:
        """Return the result with what can be said once everything is closed."""

    def explain(self, error: BaseException) -> BaseException:
        """Return a run's failure with what the backend knows of its cause."""

    def time_batches(self, task: Task, load: BatchLoad) -> BatchTimes:
        """Return what batches take: one after another on one stream of the bare engine,
        or as requests of several samples.

        Raises ``RunRefused`` where neither is possible.
        """

    def forget(self) -> None:
        """Let go of workload, build and server: another backend needs the room."""

    def close(self) -> None:
        """End what was started."""
