"""Observes the host's settings, which are read once, before the run."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.machine import host_checks


@dataclass(frozen=True, slots=True)
class ObservedSettings:
    """Settings by name."""

    facts: Mapping[str, str] = field(default_factory=dict)

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Ignore the run's progress."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """An ``Observer`` that advises on settings which spoil a measurement."""

    numa: str = ""
    """Which CPUs serve which GPUs, for people."""
    root: Path = Path("/")

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedSettings]:
        settings = host_checks.read_settings(task.cpus, task.cell.scenario, self.root)
        facts = {setting.name: str(setting) for setting in settings}
        yield ObservedSettings(facts | ({"numa": self.numa} if self.numa else {}))
