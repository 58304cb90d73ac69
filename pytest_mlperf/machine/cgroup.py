"""How the cgroup's CPU quota held back this process and its children."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.machine.host import list_cpu_cgroups
from pytest_mlperf.machine.host import read_text


@dataclass(frozen=True, slots=True)
class Throttling:
    """Periods in which the quota was used up, and how long threads waited then."""

    times: int
    seconds: float

    @classmethod
    def read(cls, root: Path = Path("/")) -> Throttling | None:
        """Return the counts of the cgroups' life; None without a ``cpu.stat``."""
        times, seconds, is_known = 0, 0.0, False
        for folder in dict.fromkeys(list_cpu_cgroups(root)):
            text = read_text(folder / "cpu.stat")
            # cgroup v2 counts microseconds, v1 nanoseconds.
            for name, scale in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
                count = re.search(r"^nr_throttled (\d{1,18})$", text, re.M)
                waited = re.search(rf"^{name} (\d{{1,20}})$", text, re.M)
                if count and waited:
                    is_known = True
                    times += int(count[1])
                    seconds += int(waited[1]) / scale
        return cls(times, seconds) if is_known else None

    def since(self, earlier: Throttling) -> Throttling:
        """Return what was added."""
        return Throttling(self.times - earlier.times, self.seconds - earlier.seconds)

    def __str__(self) -> str:
        return f"{self.times:,} times, {self.seconds:.2f} s in all"


def describe_throttling(
    first: Throttling | None, last: Throttling | None, quota: float | None
) -> str:
    """Return what the quota did between two readings, and the remedy."""
    if first is None or last is None or last.times <= first.times:
        return ""
    limit = f" of {quota:g} CPUs" if quota else ""
    return (
        f"the cgroup's CPU quota{limit} held the run back ({last.since(first)}): give "
        "the container whole CPUs (--cpuset-cpus) and no quota"
    )
