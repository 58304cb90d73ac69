"""Signs of LoadGen's own life, while nothing is outstanding."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.sut.protocol import Pace

CPU_STEP_S = 0.1
"""CPU time that counts as work: a thread that only waits wakes up now and then."""
LONGEST_GAPS = 30
"""Mean gaps between two arrivals: one in 10^13 gaps of a Poisson process is longer."""


def watch_loadgen(settings: Settings, folder: Path) -> Pace:
    """Return how LoadGen, which this thread is about to run, shows life.

    It lists its queries on this thread, and writes its logs into the folder on one of
    its own. A thread that waits for what never comes does neither.
    """
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def count_work() -> int:
        work = int(time.clock_gettime(clock) / CPU_STEP_S)
        with suppress(OSError), os.scandir(folder) as entries:
            work += sum(entry.stat().st_size for entry in entries)
        return work

    rest_s = 0.0
    if settings.scenario in BOUNDED and settings.target_qps:
        rest_s = LONGEST_GAPS / settings.target_qps
    return Pace(count_work, rest_s)
