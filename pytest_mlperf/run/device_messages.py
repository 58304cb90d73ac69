"""What a runner tells its device processes to do, and what they say. All of it pickles.

A ``DeviceCommand`` has one reply; ``OpenSlot`` and ``EndProcess`` have none. Batches do
not go this way: they have ``sut.shared_batch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import Generic

from pytest_mlperf.api.device_dataset import ResidentSamples
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import R
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import Tuned


class DeviceCommand(Generic[R]):
    """Something to do; the reply has an ``R``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OpenWorkload(DeviceCommand[str]):
    """Open the workload; the answer says what the process is bound to."""

    task: Task


@dataclass(frozen=True, slots=True)
class BuildEngine(DeviceCommand[Built]):
    """Build the engine."""

    task: Task


@dataclass(frozen=True, slots=True)
class TimeEngine(DeviceCommand[Tuned]):
    """Time the bare engine; what is tuned has no load."""

    task: Task


@dataclass(frozen=True, slots=True)
class LoadSamples(DeviceCommand[None]):
    """Bring samples into memory, or let go of them."""

    indices: Sequence[int]
    keep: bool = True


@dataclass(frozen=True, slots=True)
class ServeBatches(DeviceCommand[None]):
    """Open the engines and answer batches; a slot for each stream follows."""

    streams: Streams
    most: int
    """Samples of the largest batch."""


@dataclass(frozen=True, slots=True)
class WarmUpStreams(DeviceCommand[None]):
    """Run each stream once, untimed."""

    batch: int
    varying: bool
    """Whether batches of every size are to come."""


@dataclass(frozen=True, slots=True)
class MeasureCopies(DeviceCommand[ResidentSamples]):
    """Measure the device's copies."""


@dataclass(frozen=True, slots=True)
class ReadTimelines(DeviceCommand[list[Timeline]]):
    """Tell what the device noted since the warm-up."""


@dataclass(frozen=True, slots=True)
class StopServing(DeviceCommand[None]):
    """Close the engines; the slots are closed already."""


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A stream's slot: its memory and its line come as descriptors with this."""


@dataclass(frozen=True, slots=True)
class EndProcess:
    """Exit: no command follows."""


@dataclass(frozen=True, slots=True)
class DeviceHeartbeat:
    """A sign of life: steps done so far."""

    steps: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command could not be followed; the process is as it was."""

    error: Exception
    """``RequirementMissing``, ``BuildFailed`` or ``RunRefused``."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process met an exception and is gone."""

    cause: str
    traceback: str


Report = DeviceHeartbeat | Reply | Refusal | Crashed
