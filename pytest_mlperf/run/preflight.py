"""What is asked of a run before it starts: the build, and the memory it would take."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from pytest_mlperf.core.early_stopping import count_queries_needed
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.host import read_available_memory
from pytest_mlperf.runner.messages import Task

BYTES_PER_QUERY = 300
"""What LoadGen and the binding keep for one query or Offline sample (measured: 270)."""

LEAST_LOGS = 1 << 20
"""Bytes for the logs, records and samples of a run without answers."""
BYTES_PER_ANSWER = 60
"""Of an entry of the accuracy log, beside the answer."""
UNREACHABLE = 2.0
"""Of the rate that was measured: an Offline target above it is a slip of the hand."""


def check_build(task: Task, digest: str) -> None:
    """Raise ``RunRefused`` for a compliance run on another build than its reference."""
    if task.required_build not in ("", digest):
        name = task.audit.name if task.audit else task.mode.value
        raise RunRefused(
            f"{name} found the engine build {digest[:12]}, but should run "
            f"on that of its performance run, {task.required_build[:12]}; run "
            "performance, accuracy and compliance of this cell in one session"
        )


def planned_samples(settings: Settings, dataset_total: int) -> int | None:
    """Return how many samples LoadGen will issue, where that is fixed beforehand."""
    if settings.mode is Mode.ACCURACY:
        return dataset_total
    seconds = settings.min_duration_ms / 1000
    if settings.target_qps is None:
        return None
    if settings.scenario is Scenario.OFFLINE:
        # LoadGen's own slack of 1.1, and at least the minimum count.
        return max(settings.min_query_count, int(1.1 * seconds * settings.target_qps))
    return max(settings.min_query_count, int(seconds * settings.target_qps))


def check_memory(settings: Settings) -> None:
    """Raise ``RunRefused`` when LoadGen's query list would not fit.

    LoadGen makes all queries before it starts; asked for too many, the process would
    be killed minutes later.
    """
    count = planned_samples(settings, 0) or 0
    if settings.expected_latency_ns and settings.mode is Mode.PERFORMANCE:
        # The streams' list holds twice the queries that the latency lets expect.
        seconds = settings.min_duration_ms / 1000
        count = int(2e9 * seconds / settings.expected_latency_ns)
        count *= settings.samples_per_query
    need = count * BYTES_PER_QUERY
    free = read_available_memory()
    if need > free:
        raise RunRefused(
            f"LoadGen would prepare {count:,} samples, about {need / 2**30:.1f} GiB, "
            f"but {free / 2**30:.1f} GiB are free: shorten the run (--fast, "
            "--mlperf-duration) or lower --mlperf-target-qps (raise "
            "--mlperf-expected-latency-ms for streams)"
        )


def check_time(settings: Settings, limit_s: float | None, tuning: str) -> None:
    """Raise ``RunRefused`` for a run that is expected to take longer than it may.

    ``tuning``: how its load was found.
    """
    expected_s = settings.expected_s
    if limit_s is None or expected_s is None or expected_s <= limit_s:
        return
    rate, load = settings.answer_rate, settings.target_qps
    if (
        settings.scenario is Scenario.OFFLINE
        and rate
        and load
        and load > UNREACHABLE * rate
    ):
        raise RunRefused(
            f"the run would take about {expected_s:,.0f} s, but may take"
            f" {limit_s:,.0f} s: a target_qps of {load:,.6g} asks for"
            f" {expected_s * rate:,.0f} samples, and the probe saw {rate:,.3g} a"
            f" second. Lower --mlperf-target-qps to about {rate:.3g}, or omit it"
        )
    what = "samples" if settings.scenario is Scenario.OFFLINE else "queries"
    why = f"{settings.min_query_count:,} {what}"
    if settings.target_qps is not None:
        why += f" at {settings.target_qps:.3g}/s"
    if settings.percentile is not None:
        late = int(settings.scenario in STREAMS)
        least = count_queries_needed(late, settings.percentile)
        why += f", and early stopping needs {least:,} or more"
    raise RunRefused(
        f"the run would take about {expected_s:,.0f} s, but may take {limit_s:,.0f} s:"
        f" {why} ({tuning}). Run it on a quiet or a faster machine, or allow it the"
        f" time: --mlperf-time-limit {math.ceil(expected_s / 60) * 60 + 60}"
    )


def check_disk(folder: Path, settings: Settings, answer_bytes: int, total: int) -> None:
    """Raise ``RunRefused`` when the run's logs would not fit into their folder.

    LoadGen does not say that its logs could not be written: they would only be cut.
    """
    need = LEAST_LOGS
    if settings.mode is Mode.ACCURACY:
        need += total * (2 * answer_bytes + BYTES_PER_ANSWER)  # in hexadecimal digits
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise RunRefused(
            f"the logs of this run need about {need / 2**20:,.2f} MiB, but "
            f"{free / 2**20:,.2f} MiB are free at {there}: free some, or choose "
            "another file system with --mlperf-reports DIR"
        )
