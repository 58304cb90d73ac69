"""What a runner tells its device processes to do, and what they say. All of it pickles.

Every command but ``OpenSlot`` and ``EndProcess`` has one reply. Batches do not go this
way: they have ``sut.shared_batch``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.runner.messages import Task


@dataclass(frozen=True, slots=True)
class OpenWorkload:
    """Open the workload; the answer says what the process is bound to."""

    task: Task


@dataclass(frozen=True, slots=True)
class BuildEngine:
    """Build the engine; the answer is a ``Built``."""

    task: Task


@dataclass(frozen=True, slots=True)
class TimeEngine:
    """Time the bare engine; the answer is a ``Tuned`` without a load."""

    task: Task


@dataclass(frozen=True, slots=True)
class LoadSamples:
    """Bring samples into memory, or let go of them."""

    indices: Sequence[int]
    keep: bool = True


@dataclass(frozen=True, slots=True)
class ServeBatches:
    """Open the engines and answer batches; a slot for each stream follows."""

    streams: Streams
    most: int
    """Samples of the largest batch."""


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A stream's slot: its memory and its line come as descriptors with this."""


@dataclass(frozen=True, slots=True)
class WarmUpStreams:
    """Run each stream once, untimed."""

    batch: int
    varying: bool
    """Whether batches of every size are to come."""


@dataclass(frozen=True, slots=True)
class MeasureCopies:
    """Measure the device's copies; the answer is a ``Kept``."""


@dataclass(frozen=True, slots=True)
class ReadTimelines:
    """Tell what the device noted since the warm-up."""


@dataclass(frozen=True, slots=True)
class StopServing:
    """Close the engines; the slots are closed already."""


@dataclass(frozen=True, slots=True)
class EndProcess:
    """Exit: no command follows."""


Command = (
    OpenWorkload
    | BuildEngine
    | TimeEngine
    | LoadSamples
    | ServeBatches
    | WarmUpStreams
    | MeasureCopies
    | ReadTimelines
    | StopServing
    | OpenSlot
    | EndProcess
)


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
