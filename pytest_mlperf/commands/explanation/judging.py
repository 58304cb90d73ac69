"""Judges many runs on all CPUs, in their order, and shows how far it is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from pytest_mlperf.core.logs.discover import FoundRun
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.process import die_with_parent

FEW = 100
"""Runs that are judged sooner than other processes start."""
CHUNK = 16
"""Runs that a process takes at once."""
EVERY_S = 0.2
WIDTH = 24

Judge = Callable[[FoundRun], Verdict]


def judge_all(runs: Sequence[FoundRun], judge: Judge) -> Iterator[Verdict]:
    """Yield the verdicts in the order of the runs, as they come.

    ``judge`` is a function of a module, or a partial of one: processes are started
    afresh and import it.
    """
    workers = min(count_cpus(), len(runs) // FEW)
    if workers < 2:
        yield from map(judge, runs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), die_with_parent)
    try:
        yield from pool.map(judge, runs, chunksize=CHUNK)
    finally:
        # Whoever reads no further wants no more.
        pool.shutdown(wait=True, cancel_futures=True)


def count_cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def show_progress(verdicts: Iterator[Verdict], total: int) -> Iterator[Verdict]:
    """Yield the verdicts, and show on a terminal's error stream how many are done."""
    if total < FEW or not sys.stderr.isatty():
        yield from verdicts
        return
    begun = shown = time.monotonic()
    try:
        for done, verdict in enumerate(verdicts, 1):
            yield verdict
            now = time.monotonic()
            if now - shown >= EVERY_S:
                shown = now
                line = format_progress(done, total, now - begun)
                sys.stderr.write(f"\r{line}\x1b[K")
                sys.stderr.flush()
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def format_progress(done: int, total: int, elapsed_s: float) -> str:
    """Return ``[#####-----] 7,500 of 15,000 runs, 60 s left``."""
    filled = WIDTH * done // total
    bar = "#" * filled + "-" * (WIDTH - filled)
    left_s = elapsed_s / done * (total - done)
    return f"[{bar}] {done:,} of {total:,} runs, {left_s:,.0f} s left"
