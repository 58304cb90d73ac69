"""How what runs in a runner reports to the pytest process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.sut.protocol import Counted
from pytest_mlperf.sut.protocol import Pace


class Channel(Protocol):
    """What a run tells its parent."""

    def watch(
        self,
        sut: Counted | None,
        total: int | None = None,
        expected_s: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Report the counters of ``sut``, and LoadGen's own work, from now on."""

    def watch_devices(self, devices: Callable[[], tuple[DeviceStatus, ...]]) -> None:
        """Report how each device of a run over several is doing from now on."""

    def enter(self, phase: str) -> None:
        """Begin a phase."""

    def beat(self) -> None:
        """Show life between the steps of a phase that issues nothing."""

    def fail(self, error: BaseException) -> None:
        """Report an exception and end the process; any thread may call this."""
