"""What a run drives: an engine, a group of devices, or a service."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from typing import Protocol
from typing import TypeVar

from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.protocol import SUT
from pytest_mlperf.sut.protocol import SampleLibrary
from pytest_mlperf.tuning.server_load import Tuned
from pytest_mlperf.tuning.service_probe import ServiceTuned

T = TypeVar("T", Tuned, ServiceTuned)
ShortRun = Callable[[T, float, Callable[[Log], float]], float]
"""(tuning, seconds, what to read) -> a figure of a short real run, for a probe."""


class Backend(Protocol[T]):
    """Keeps workload, build or server, and tuning between the tasks of a runner."""

    def reserve(self, task: Task) -> AbstractContextManager[None]:
        """Hold what only one task may have, while the block runs.

        After an exception in the block the backend is as new.
        """

    def open(self, task: Task) -> Workload:
        """Open the task's workload. Raises ``RequirementMissing``."""

    def build(self, task: Task) -> Built:
        """Build the engine, or have a server that answers; untimed.

        Raises ``RequirementMissing``, ``BuildFailed``, ``RunRefused``.
        """

    @property
    def samples(self) -> SampleLibrary:
        """What LoadGen loads, once something is built."""

    def tune(
        self, task: Task, settings: Callable[[T], Settings], run: ShortRun[T]
    ) -> T:
        """Return how the task runs, found once."""

    def tuned_from(self, values: Mapping[str, Any]) -> T:
        """Return the tuning of a ``tuning.json``."""

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

    def time_batches(self, task: Task, size: int, count: int) -> tuple[float, ...]:
        """Return the seconds of batches on one stream of the bare engine.

        Raises ``RunRefused`` where there is no engine here.
        """

    def forget(self) -> None:
        """Let go of workload, build and server: another backend needs the room."""

    def close(self) -> None:
        """End what was started."""
