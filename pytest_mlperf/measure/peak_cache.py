"""Peaks that were found, kept on disk for each system, build and cell."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.machine.system import System
from pytest_mlperf.measure.peak_trials import plan_run_length
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved
from pytest_mlperf.tuning.peak_search import Peak

FOLDER = "peaks"


@dataclass(frozen=True, slots=True)
class KnownPeak:
    """A peak with how it is run."""

    peak: Peak
    tuned: TunedLoad
    """At the peak's load."""
    found: str = ""
    """When, as ISO 8601 has it."""


def cache_file(task: Task, system: System, build: str) -> Path:
    """Return where a task's peak is kept; ``build``: content hash of what answers."""
    rule, length = task.rule, plan_run_length(task)
    bounds = (rule.target_latency_ns, rule.ttft_ns, rule.tpot_ns, rule.percentile)
    key = {
        "system": (system.name, system.cpu_model, system.memory_bytes),
        "cpus": task.cpus,
        "gpus": task.visible,
        "devices": task.devices,
        "build": build,
        "cell": task.cell.id,
        "round": rule.round,
        "bounds": bounds,
        "length": (length.seconds, length.queries),
        "tuning": asdict(task.tuning),
        "options": dict(task.engine_options),
        "service": asdict(task.service) if task.service else None,
    }
    name = f"{task.cell.file_name}-{content_hash(key)[:16]}.json"
    return task.cache / FOLDER / name


def read_peak(path: Path) -> KnownPeak | None:
    """Return a peak that was kept; None where there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        values = json.loads(path.read_text(encoding="utf-8"))
        trials = LoadTrial.read_all(values["peak"].pop("trials"))
        peak = Peak(**values["peak"], trials=trials)
        return KnownPeak(peak, saved.from_values(values["tuning"]), values["found"])
    return None


def write_peak(path: Path, peak: Peak, tuned: TunedLoad) -> None:
    """Keep a peak, whole or not at all."""
    values = {
        "found": datetime.now().astimezone().isoformat(timespec="seconds"),
        "peak": asdict(peak),
        "tuning": asdict(tuned),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(values, indent=1) + "\n")
