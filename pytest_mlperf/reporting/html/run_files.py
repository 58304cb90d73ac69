"""What a run's folder holds for plots: percentiles, samples of devices, queries.

Judging reads none of this here: a folder that is gone or damaged means a report without
its plots.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import QUERY_LATENCY
from pytest_mlperf.core.logs.keys import SHARES
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.core.power.figures import read_window
from pytest_mlperf.core.power.readings import read_readings
from pytest_mlperf.core.power.readings import select_within
from pytest_mlperf.reporting.query_record import QueryRecord

DEVICE_SAMPLES = "device*.jsonl"
TUNING = "tuning.json"
CPU_SAMPLES = "cpus.jsonl"
READINGS = "spl.txt"
SERIES = {
    "latency": LATENCY,
    "latency per query": QUERY_LATENCY,
    "TTFT": FIRST_TOKEN_LATENCY,
    "TPOT": TOKEN_LATENCY,
}
"""What LoadGen reports percentiles of -> its keys of the detail log, nanoseconds."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What plots of one run are drawn from."""

    latencies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Name of ``SERIES`` -> percentile (``99.00``) -> milliseconds."""
    device_samples: tuple[Mapping[str, Any], ...] = ()
    """One a second and device: ``at_s``, ``power_w``, ``sm_mhz``, ``temperature_c``,
    ``held_back`` (reasons of throttling)."""
    cpu_samples: tuple[Mapping[str, Any], ...] = ()
    """One a second: ``at_s``, ``others_share`` of the run's CPUs."""
    meter_watts: tuple[Mapping[str, float], ...] = ()
    """A power meter's readings while LoadGen measured, those that are averaged:
    ``at_s`` since power_begin, ``watts``."""
    queries: QueryRecord | None = None
    trials: tuple[LoadTrial, ...] = ()
    """Of the probe, that led to the run's load."""


def read_run_files(folder: Path) -> RunFiles:
    """Return what is there; empty where nothing can be read."""
    try:
        log = Log.read(folder)
    except (LogError, OSError):
        return RunFiles()
    latencies = {
        name: found
        for name, key in SERIES.items()
        if (found := _read_percentiles(log.values, key))
    }
    devices = [
        {"device": number, **sample}
        for number, path in enumerate(sorted(folder.glob(DEVICE_SAMPLES)))
        for sample in _read_samples(path)
    ]
    cpus = tuple(_read_samples(folder / CPU_SAMPLES))
    queries, meter = QueryRecord.read(folder), _read_meter(folder, log)
    return RunFiles(
        latencies, tuple(devices), cpus, meter, queries, _read_trials(folder)
    )


def _read_meter(folder: Path, log: Log) -> tuple[Mapping[str, float], ...]:
    try:
        window = read_window(log)
        readings = select_within(read_readings(folder / READINGS), window)
        return tuple(
            {"at_s": round(reading.at_s - window[0], 3), "watts": reading.watts}
            for reading in readings
        )
    except (LogError, OSError):
        return ()


def _read_trials(folder: Path) -> tuple[LoadTrial, ...]:
    try:
        values = json.loads((folder / TUNING).read_text(encoding="utf-8"))
        return LoadTrial.read_all(values.get("trials", ()))
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def _read_percentiles(values: Mapping[str, Any], key: str) -> dict[str, float]:
    found = {share: values.get(key.format(share)) for share in SHARES}
    return {share: value / 1e6 for share, value in found.items() if value}


def _read_samples(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                sample = json.loads(line)
            except ValueError:
                return  # a run that was killed wrote half of its last line
            if isinstance(sample, dict) and "at_s" in sample:
                yield sample
