"""Observes a run's CPUs: how hot they were, and who else used them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.cgroup import Throttling
from pytest_mlperf.machine.cgroup import describe_throttling
from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import describe_usage
from pytest_mlperf.machine.cpu_usage import find_others_share
from pytest_mlperf.machine.host import read_quota
from pytest_mlperf.machine.host_checks import count_cpu_throttles
from pytest_mlperf.machine.sampler import MEASURED

PERIOD_S = 5.0
"""How often CPU times are read in a run: on a large machine that takes some ms."""
SHARE = 0.2
"""They are read more often at first, after this share of the time so far: a short run
is measured too, almost to its end."""


@dataclass(slots=True)
class ObservedCpus:
    """CPU times at the beginning and the end of the measured phase."""

    cpus: tuple[int, ...]
    root: Path
    throttled: int = 0
    """How often the cores were too hot during the run."""
    throttling: str = ""
    """How the cgroup's quota held the run back."""
    first: CpuTime | None = None
    last: CpuTime | None = None
    _quota_before: Throttling | None = None
    _began_at: float = 0.0
    _read_at: float = 0.0

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Read the CPU times now and then while LoadGen measures."""
        if heartbeat.phase != MEASURED:
            return
        now = time.monotonic()
        wait_s = min(PERIOD_S, SHARE * (self._read_at - self._began_at))
        if self.first and now - self._read_at < wait_s:
            return
        self._read_at = now
        self.last = CpuTime.read(self.cpus, root=self.root)
        if not self.first:
            self.first, self._began_at = self.last, now
            self._quota_before = Throttling.read(self.root)

    def finish(self) -> None:
        """Read the quota's counts once more: the run has ended."""
        after = Throttling.read(self.root)
        quota = read_quota(self.root)
        self.throttling = describe_throttling(self._quota_before, after, quota)

    @property
    def facts(self) -> dict[str, str]:
        facts = {}
        if self.throttled:
            facts["cpu throttling"] = f"{self.throttled} times too hot"
        if self.throttling:
            facts["quota throttling"] = self.throttling
        if self.first and self.last:
            facts |= describe_usage(self.first, self.last, len(self.cpus))
        return facts

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with whether others' CPU time spoiled the figure."""
        facts = replace(facts, throttled=self.throttling)
        if not (self.first and self.last):
            return facts
        share = find_others_share(self.first, self.last)
        return replace(facts, is_disturbed=share > QUIET, others_share=share)


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """An ``Observer`` of the run's CPUs."""

    root: Path = Path("/")

    @contextmanager
    def around(self, task: ObservedRun) -> Iterator[ObservedCpus]:
        before = count_cpu_throttles(task.cpus, self.root)
        observed = ObservedCpus(task.cpus, self.root)
        yield observed
        observed.finish()
        after = count_cpu_throttles(task.cpus, self.root)
        if before is not None and after is not None:
            observed.throttled = max(0, after - before)
