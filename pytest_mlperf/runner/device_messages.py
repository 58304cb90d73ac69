"""What a runner tells its device processes to do, and what they say. All of it pickles.

Every order has one answer. Batches do not go this way: they have ``slot``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.runner.messages import Job


@dataclass(frozen=True, slots=True)
class Open:
    """Open the workload; the answer says what the process is bound to."""

    job: Job


@dataclass(frozen=True, slots=True)
class Build:
    """Build the engine; the answer is a ``Built``."""

    job: Job


@dataclass(frozen=True, slots=True)
class Measure:
    """Time the bare engine; the answer is a ``Tuned`` without a load."""

    job: Job


@dataclass(frozen=True, slots=True)
class Load:
    """Bring samples into memory, or let go of them."""

    indices: Sequence[int]
    keep: bool = True


@dataclass(frozen=True, slots=True)
class Serve:
    """Open the engines and answer batches; a slot for each stream follows."""

    streams: Streams
    most: int
    """Samples of the largest batch."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Run each stream once, untimed."""

    batch: int


@dataclass(frozen=True, slots=True)
class Resident:
    """Measure the device's copies; the answer is a ``Kept``."""


@dataclass(frozen=True, slots=True)
class Timelines:
    """Tell what the device noted since the warm-up."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Close the engines; the slots are closed already."""


Order = Open | Build | Measure | Load | Serve | WarmUp | Resident | Timelines | Rest


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life: steps done so far."""

    steps: int


@dataclass(frozen=True, slots=True)
class Said:
    """The answer to an order."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An order could not be followed; the process is as it was."""

    error: Exception
    """``Missing``, ``BuildFailed`` or ``Refused``."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The process met an exception and is gone."""

    cause: str
    traceback: str


Report = Alive | Said | Refusal | Broken
