"""What settings cost on this machine, as far as a second of work can show it.

Each measurement returns a share of lost speed, 0 to 1, with a sentence, or None where
this machine cannot show it.
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.machine.cgroup import Throttling
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.machine.cpu_usage import find_others_share
from pytest_mlperf.machine.host import Host

PAGES_BYTES = 1 << 27
"""Of random reads: far more than small pages' translations are cached for."""
READS = 1 << 18
REPEATS = 5
WATCH_S = 0.5
HELD = 0.2
"""Share of a CPU that a busy thread lacks where others have it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one setting costs."""

    share: float
    """Of speed that is lost, 0 to 1; 0 where the difference is noise."""
    text: str


def measure_huge_pages() -> Cost | None:
    """Compare random reads of small pages with those of huge ones.

    The readings alternate, so that other load meets both. None where the kernel makes
    no huge pages for memory that asks for them.
    """
    import numpy as np

    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    places = np.random.default_rng(0).integers(0, PAGES_BYTES // 8, READS)
    arrays = []
    for advice in (mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE):
        memory = mmap.mmap(-1, PAGES_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            memory.madvise(advice)
        except OSError:
            return None
        array = np.frombuffer(memory, np.int64)
        array[:: mmap.PAGESIZE // 8] = 1  # the kernel gives memory when it is written
        arrays.append(array)
    ratios = []
    for _ in range(REPEATS):
        seconds = []
        for array in arrays:
            began = time.perf_counter()
            array.take(places)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[1] / seconds[0])
    share = 1 - statistics.median(ratios)
    spread = max(ratios) - min(ratios)
    text = f"random reads of memory are {share:.0%} faster with huge pages"
    if share <= spread / 2:
        return Cost(0.0, "none seen in random reads of memory")
    return Cost(share, text)


def measure_cpu_share(host: Host) -> Callable[[], Cost | None]:
    """Return what tells how much of the CPUs others use while this process sleeps."""

    def measure() -> Cost | None:
        first = CpuTime.read(host.cpus)
        time.sleep(WATCH_S)
        last = CpuTime.read(host.cpus)
        if first is None or last is None:
            return None
        share = find_others_share(first, last)
        return Cost(share, f"others used {share:.0%} of the CPUs' time just now")

    return measure


def measure_quota(root: Path = Path("/")) -> Cost | None:
    """Return how long the quota stops one thread that computes all the time.

    None where other programs left it too little of a CPU to reach the quota.
    """
    first = Throttling.read(root)
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < WATCH_S:
        pass
    took, used = time.perf_counter() - began, time.process_time() - used
    last = Throttling.read(root)
    if first is None or last is None:
        share = max(0.0, 1 - used / took)
        return Cost(share, f"one busy thread got {1 - share:.0%} of a CPU just now")
    share = min(1.0, last.since(first).seconds / took)
    if not share and used < (1 - HELD) * took:
        return None
    return Cost(share, f"it stopped one busy thread for {share:.0%} of the time")


def list_measurements(host: Host) -> Mapping[str, Callable[[], Cost | None]]:
    """Return a setting's name -> what measures its cost."""
    return {
        "huge pages": measure_huge_pages,
        "load before": measure_cpu_share(host),
        "cpu quota": measure_quota,
    }
