"""Observes the host's settings, which are read once, before the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.machine import host_checks

SPEED_VARIABLES = (
    "LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "OMP_", "KMP_", "MKL_",
)  # fmt: skip
"""Beginnings of environment variables that choose allocators and threads."""


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
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """The runner inherits it."""

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedSettings]:
        settings = host_checks.read_settings(task.cpus, task.cell.scenario, self.root)
        facts = {setting.name: str(setting) for setting in settings}
        facts |= {"numa": self.numa} if self.numa else {}
        variables = describe_variables(self.environ)
        facts |= {"environment": variables} if variables else {}
        yield ObservedSettings(facts)


def describe_variables(environ: Mapping[str, str]) -> str:
    """Return the variables that change an engine's speed unseen: ``OMP_NUM_THREADS=1``.

    Two sessions that differ by jemalloc alone would look alike without them.
    """
    return ", ".join(
        f"{name}={environ[name]}"
        for name in sorted(environ)
        if name.startswith(SPEED_VARIABLES) and environ[name]
    )
