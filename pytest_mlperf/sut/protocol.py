"""What LoadGen drives: a system under test, and its samples."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_mlperf.core.late_queries import LatencySoFar
from pytest_mlperf.sut.work_share import WorkShare
from pytest_mlperf.sut.work_share import share_equally

ReadLatencies = Callable[[], tuple[LatencySoFar, ...]]
"""Returns the percentiles so far; one thread at a time may call it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a run is getting on, and may be quiet in it without being stuck."""

    count_work: Callable[[], int] = int
    """Returns a number that grows as LoadGen works."""
    longest_rest_s: float = 0.0
    """As a heartbeat has it."""
    read_latencies: ReadLatencies = tuple
    share_work: WorkShare = share_equally


class Counted(Protocol):
    """What the heartbeat reads of a system under test."""

    @property
    def issued(self) -> int: ...

    @property
    def completed(self) -> int: ...

    @property
    def pulse(self) -> int:
        """Grows with signs of life between completions."""

    @property
    def is_flushed(self) -> bool:
        """LoadGen has issued its last query."""


class SUT(Counted, Protocol):
    """What LoadGen's callbacks call: a ``BatchSUT`` or a ``RequestSUT``."""

    @property
    def issue(self) -> Callable[[list[int], list[int]], None]:
        """Takes LoadGen's ids and sample indices, and returns at once."""

    @property
    def network_name(self) -> Callable[[], str] | None:
        """Asks every server of a network run for its name, and returns that of the
        SUT; None for a SUT of this host.
        """

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def flush(self) -> None: ...


class SampleLibrary(Protocol):
    """The samples as LoadGen's QSL sees them; a ``Dataset`` is one."""

    @property
    def total(self) -> int: ...

    @property
    def performance_count(self) -> int: ...

    def load(self, indices: Sequence[int]) -> None: ...

    def unload(self, indices: Sequence[int]) -> None: ...
