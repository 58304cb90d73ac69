"""Observes a run's CPUs: how hot they were, and who else used them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.core.facts import BURST
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.cgroup import Throttling
from pytest_mlperf.machine.cgroup import describe_throttling
from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import describe_usage
from pytest_mlperf.machine.cpu_usage import find_family
from pytest_mlperf.machine.cpu_usage import find_others_share
from pytest_mlperf.machine.cpu_usage import read_ticks
from pytest_mlperf.machine.host import read_quota
from pytest_mlperf.machine.host_checks import count_cpu_throttles
from pytest_mlperf.machine.sampler import MEASURED

FILE = "cpus.jsonl"
"""In the run's folder: what others used, a line a second."""
PERIOD_S = 1.0
SCAN_S = 5.0
"""How often the run's processes are looked for: on a large machine that takes some
ms. Between, those of the last time are read."""
SHARE = 0.2
"""They are read more often at first, after this share of the time so far: a short run
is measured too, almost to its end."""
LEAST_TICKS = 20
"""Of the CPUs between two readings, for a share of them: a tick is 10 ms."""


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
    shares: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of the run, and what others used of the CPUs in the second before."""
    _family: frozenset[int] = frozenset()
    _scanned_at: float = float("-inf")
    _quota_before: Throttling | None = None
    _began_at: float = 0.0
    _read_at: float = 0.0

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Read the CPU times now and then while LoadGen measures."""
        if heartbeat.step != MEASURED:
            return
        now = time.monotonic()
        wait_s = min(PERIOD_S, SHARE * (self._read_at - self._began_at))
        if self.first and now - self._read_at < wait_s:
            return
        self._read_at = now
        if now - self._scanned_at >= SCAN_S:
            self._scanned_at = now
            self._family = find_family(os.getpid(), read_ticks(self.root))
        before = self.last
        self.last = CpuTime.read(self.cpus, root=self.root, family=self._family)
        if not self.first:
            self.first, self._began_at = self.last, now
            self._quota_before = Throttling.read(self.root)
        elif before and self.last and self.last.total - before.total >= LEAST_TICKS:
            share = find_others_share(before, self.last)
            self.shares.append((now - self._began_at, share))

    def finish(self) -> None:
        """Read the quota's counts once more: the run has ended."""
        after = Throttling.read(self.root)
        quota = read_quota(self.root)
        self.throttling = describe_throttling(self._quota_before, after, quota)

    def write(self, path: Path) -> None:
        """Write the others' share over time, a line a second; errors fail no run."""
        lines = [
            json.dumps({"at_s": round(at_s, 2), "others_share": round(share, 3)})
            for at_s, share in self.shares
        ]
        if not lines:
            return
        with suppress(OSError):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @property
    def facts(self) -> dict[str, str]:
        facts = {}
        if self.throttled:
            facts["cpu throttling"] = f"{self.throttled} times too hot"
        if self.throttling:
            facts["quota throttling"] = self.throttling
        if self.first and self.last:
            facts |= describe_usage(self.first, self.last, len(self.cpus))
        if self.shares and self.busiest[1] > BURST:
            at_s, share = self.busiest
            facts["busiest second"] = (
                f"{share * len(self.cpus):.2f} of {len(self.cpus)} CPUs were others', "
                f"{at_s:.0f} s after the start"
            )
        return facts

    @property
    def busiest(self) -> tuple[float, float]:
        """The second in which others used most: its time, and their share then."""
        return max(self.shares, key=lambda one: one[1], default=(0.0, 0.0))

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the facts with whether others' CPU time spoiled the figure."""
        facts = replace(facts, throttled=self.throttling)
        if not (self.first and self.last):
            return facts
        share = find_others_share(self.first, self.last)
        at_s, peak = self.busiest
        return replace(
            facts,
            is_disturbed=share > QUIET,
            others_share=share,
            others_peak=peak,
            others_peak_at_s=at_s,
        )


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
        observed.write(task.folder / FILE)
        after = count_cpu_throttles(task.cpus, self.root)
        if before is not None and after is not None:
            observed.throttled = max(0, after - before)
