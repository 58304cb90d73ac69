"""What the fixtures return: an engine or a server that is up, and how to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import BareBatches
from pytest_mlperf.runner.messages import BuildTask
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import Opened
from pytest_mlperf.runner.messages import OpenTask
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.messages import TuneTask
from pytest_mlperf.sut.tuned_load import TunedLoad


class Measure(Protocol):
    """What the fixture ``measure`` returns."""

    def __call__(self, cell: Cell, audit: str = "") -> Verdict:
        """Run a cell, under a compliance test's settings where one is named."""


@dataclass(frozen=True, slots=True)
class UnderTest:
    """A task in a runner. Every method raises what ``Runner.obey`` raises."""

    rig: Rig
    task: Task

    def open(self) -> Opened:
        """Open the workload."""
        return self.rig.obey(OpenTask(self.task))

    def build(self) -> Built:
        """Build the engine, or have a server that answers."""
        return self.rig.obey(BuildTask(self.task))

    def tune(self) -> TunedLoad:
        """Find out streams, threads, batch and load."""
        return self.rig.obey(TuneTask(self.task))

    def measure_batches(self, load: BatchLoad) -> BatchTimes:
        """Return what batches take without LoadGen: on one stream of the bare engine,
        which stays open between calls, or as requests to a server.
        """
        return self.rig.obey(BareBatches(self.task, load))


@dataclass(frozen=True, slots=True)
class EngineUnderTest:
    """What the fixtures ``engine`` and ``server`` return."""

    build: Built
    under_test: UnderTest

    @property
    def digest(self) -> str:
        """Content hash of the build."""
        return self.build.digest

    def time_batches(self, size: int, count: int = 1) -> tuple[float, ...]:
        """Return the seconds of ``count`` batches of ``size`` samples, without LoadGen.

        Raises ``RunFailed`` for a service of prompts, and for several devices.
        """
        return self.measure_batches(BatchLoad(size, count)).seconds

    def measure_batches(self, load: BatchLoad) -> BatchTimes:
        """Return the same of any load, with where a request's time went, where it is
        told.
        """
        return self.under_test.measure_batches(load)

    @property
    def is_served(self) -> bool:
        """Whether a server answers, which can have several requests at a time."""
        return self.under_test.task.service is not None
