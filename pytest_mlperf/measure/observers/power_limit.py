"""Limits the machine's power during a run where the system file asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.machine.power_limits import PowerLimits
from pytest_mlperf.machine.power_limits import limit_power


@dataclass(frozen=True, slots=True)
class LimitedPower:
    """What was limited, and whether it was restored: complete after the context."""

    facts: Mapping[str, str]

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Ignore the run's progress."""


@dataclass(frozen=True, slots=True)
class PowerLimit:
    """An ``Observer`` that changes what it observes; refuses where it cannot."""

    limits: PowerLimits

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[LimitedPower]:
        with limit_power(self.limits, task.visible, task.cpus) as facts:
            yield LimitedPower(facts)
