"""Observes what CPU packages use while LoadGen measures: RAPL's counters.

No power meter: memory, fans, disks and losses of the power supply are not in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.rapl import ROOT
from pytest_mlperf.machine.rapl import RaplDomain
from pytest_mlperf.machine.rapl import find_domains
from pytest_mlperf.machine.sampler import MEASURED


@dataclass(slots=True)
class PackageEnergy:
    """One package's joules since the measured phase began."""

    domain: RaplDomain
    last_uj: int | None = None
    joules: float = 0.0

    def read(self) -> None:
        """Add what was used since the last reading: several a wrap."""
        now = self.domain.read_uj()
        if self.last_uj is not None:
            self.joules += self.domain.elapsed_j(self.last_uj, now)
        self.last_uj = now


@dataclass(slots=True)
class ObservedPackages:
    """The packages of one run, read with each heartbeat of the measured phase."""

    packages: list[PackageEnergy]
    began: float | None = None
    ended: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Read the counters."""
        if heartbeat.step != MEASURED:
            return
        for package in self.packages:
            package.read()
        self.ended = time.monotonic()
        self.began = self.ended if self.began is None else self.began

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with the packages' average power."""
        seconds = self.ended - (self.began or self.ended)
        if not seconds:
            return facts
        own = {
            f"CPU {one.domain.name} (RAPL)": one.joules / seconds
            for one in self.packages
        }
        return replace(facts, chip_watts={**facts.chip_watts, **own})


@dataclass(frozen=True, slots=True)
class ChipPower:
    """An ``Observer`` of CPU packages' power."""

    root: Path = ROOT

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedPackages]:
        del task
        yield ObservedPackages([PackageEnergy(one) for one in find_domains(self.root)])
