"""Locks the GPUs' clocks during a run where the user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.machine.clocks import lock_clocks


@dataclass(frozen=True, slots=True)
class LockedClocks:
    """What was locked, and whether it was reset: complete after the context."""

    facts: Mapping[str, str]

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Ignore the run's progress."""


@dataclass(frozen=True, slots=True)
class ClockLock:
    """An ``Observer`` that changes what it observes; refuses where it cannot."""

    clock: str | None
    """MHz, or ``max``; None does nothing."""

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[LockedClocks]:
        with lock_clocks(self.clock, task.visible) as facts:
            yield LockedClocks(facts)
