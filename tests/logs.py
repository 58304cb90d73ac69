"""Small log folders in LoadGen's format, computed from latencies, and real runs.

What is built here is as LoadGen 6.0 writes it, less the keys that nobody reads; a real
run in the tests holds the builder against LoadGen itself.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core import rounds

PERCENTILES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
TARGET = {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99, "Offline": 0.9}


def rising(count: int, first_ns: int, last_ns: int) -> list[int]:
    """Return ``count`` latencies in equal steps."""
    step = (last_ns - first_ns) / max(count - 1, 1)
    return [first_ns + int(step * i) for i in range(count)]


STORIES: dict[str, dict[str, Any]] = {
    "SingleStream": {"latencies": rising(1000, 600_000_000, 620_000_000)},
    "MultiStream": {"latencies": rising(1000, 600_000_000, 620_000_000)},
    "Server": {"latencies": rising(60_500, 5_000_000, 12_000_000)},
    "Offline": {"latencies": rising(66_000, 1_000_000, 660_000_000_000)},
}
"""One passing run of resnet50 for each scenario."""


def performance(
    folder: Path,
    scenario: str,
    *,
    latencies: Sequence[int] | None = None,
    change: Mapping[str, object] | None = None,
    drop: Iterable[str] = (),
    errors: Iterable[str] = (),
    warnings: Iterable[str] = (),
    target_ns: int = 15_000_000,
    seeds: str = "v6.1",
) -> Path:
    """Write a finished performance run and return its folder.

    ``change`` replaces or adds values of the detail log after all is computed, so
    that one line can be made to lie; ``drop`` leaves lines out.
    """
    taken = sorted(latencies or STORIES[scenario]["latencies"])
    values = head(scenario, "PerformanceOnly", seeds)
    values |= asked(scenario, taken, target_ns)
    values |= results(scenario, taken, target_ns)
    values |= change or {}
    for key in drop:
        values.pop(key, None)
    return write(folder, values, errors, warnings)


def head(scenario: str, mode: str, seeds: str) -> dict[str, object]:
    """Return what every log begins with."""
    own = rounds.get(seeds).seeds
    return {
        "loadgen_version": "6.0.17 @ d6147c7eb7",
        "loadgen_git_status_message": "",
        "sut_name": "PySUT",
        "qsl_reported_total_count": 50_000,
        "effective_scenario": scenario,
        "effective_test_mode": mode,
        "effective_qsl_rng_seed": own.qsl,
        "effective_sample_index_rng_seed": own.sample_index,
        "effective_schedule_rng_seed": own.schedule,
    }


def asked(scenario: str, taken: Sequence[int], target_ns: int) -> dict[str, object]:
    """Return the settings of a run of the official length."""
    count = len(taken)
    per_query = {"MultiStream": 8, "Offline": count}.get(scenario, 1)
    seconds = sum(taken) / 1e9 if "Stream" in scenario else max(taken[-1] / 1e9, 605)
    return {
        "effective_target_qps": round(count / seconds, 3),
        "effective_target_latency_ns": target_ns if scenario == "Server" else 0,
        "effective_target_latency_percentile": TARGET[scenario],
        "effective_min_duration_ms": 600_000,
        "effective_min_query_count": 1 if scenario == "Offline" else 100,
        "effective_samples_per_query": per_query,
        "effective_performance_issue_unique": False,
        "effective_performance_issue_same": False,
        "effective_performance_sample_count": 1024,
        "effective_sample_concatenate_permutation": False,
        "loaded_qsl_set": list(range(1024)),
        "generated_query_count": 1 if scenario == "Offline" else count,
        "generated_samples_per_query": per_query,
        "generated_query_duration": int(seconds * 1e9),
        "power_begin": "11-22-2026 06:00:00.000",
        "power_end": clock(seconds),
    }


def clock(seconds: float) -> str:
    """Return the time stamp so long after six o'clock."""
    whole = int(seconds)
    hours, minutes = 6 + whole // 3600, whole // 60 % 60
    fraction = int(seconds % 1 * 1000)
    return f"11-22-2026 {hours:02}:{minutes:02}:{whole % 60:02}.{fraction:03}"


def results(scenario: str, taken: Sequence[int], target_ns: int) -> dict[str, object]:
    """Return LoadGen's results of these latencies, by its own arithmetic."""
    count = len(taken)
    queries = 1 if scenario == "Offline" else count
    over = sum(latency > target_ns for latency in taken)
    percentile = TARGET[scenario]
    stops = early_stopping.proves(count, over, percentile)
    estimate = 0
    if "Stream" in scenario:
        left_out = early_stopping.discarded(count, percentile)
        stops = left_out is not None
        estimate = 0 if left_out is None else taken[count - left_out - 1]
    met = scenario == "Offline" or stops
    in_time = scenario != "Server" or taken[int(count * 0.99)] <= target_ns
    values: dict[str, object] = {
        "result_validity": "VALID" if met and in_time else "INVALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": met,
        "result_query_count": queries,
        "result_min_latency_ns": taken[0],
        "result_max_latency_ns": taken[-1],
        "result_mean_latency_ns": sum(taken) // count,
    }
    kinds = ["latency"]
    if scenario == "MultiStream":
        kinds.append("per_query_latency")
        values["result_max_query_latency_ns"] = taken[-1]
    for share in PERCENTILES:
        for kind in kinds:
            key = f"result_{share * 100:.2f}_percentile_{kind}_ns"
            values[key] = taken[int(count * share)]
    if scenario == "SingleStream":
        values["early_stopping_latency_ss"] = estimate
    elif scenario == "MultiStream":
        values["early_stopping_latency_ms"] = estimate
    elif scenario == "Server":
        rate = round((count - 1) / 605, 3)
        values["result_perf_constraints_met"] = in_time
        values["result_overlatency_query_count"] = over
        values["result_scheduled_samples_per_sec"] = rate
        values["result_completed_samples_per_sec"] = rate
    else:
        values["result_samples_per_second"] = round(count * 1e9 / taken[-1], 4)
    return values | {"num_errors": 0}


def accuracy(
    folder: Path,
    *,
    answers: Mapping[int, bytes] | None = None,
    total: int = 40,
    text: str = "accuracy=76.456%, good=38228, total=50000",
    scenario: str = "Offline",
    change: Mapping[str, object] | None = None,
    errors: Iterable[str] = (),
) -> Path:
    """Write a finished, scored accuracy run and return its folder."""
    if answers is None:
        answers = {index: index.to_bytes(4, "little") for index in range(total)}
    values = head(scenario, "AccuracyOnly", "v6.1")
    values |= {
        "qsl_reported_total_count": total,
        "power_begin": "11-22-2026 06:00:00.000",
        "power_end": clock(3.5),
    }
    write(folder, {**values, **(change or {})}, errors)
    entries = [
        f'{{ "seq_id" : {i}, "qsl_idx" : {index}, "data" : "{data.hex().upper()}" }}'
        for i, (index, data) in enumerate(answers.items())
    ]
    log = folder / "mlperf_log_accuracy.json"
    log.write_text("[\n" + ",\n".join(entries) + "\n]\n")
    score(folder, text)
    return folder


def score(folder: Path, text: str) -> None:
    """Write accuracy.txt beside the accuracy log that is in the folder."""
    log = folder / "mlperf_log_accuracy.json"
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    (folder / "accuracy.txt").write_text(f"{text}\n\nhash={digest}\n")


def line(key: str, value: object, *, error: bool = False, warning: bool = False) -> str:
    """Return one line of a detail log."""
    record = {
        "key": key,
        "value": value,
        "time_ms": 1.5,
        "namespace": "mlperf::logging",
        "event_type": "POINT_IN_TIME",
        "metadata": {"is_error": error, "is_warning": warning, "pid": 1, "tid": 1},
    }
    return f":::MLLOG {json.dumps(record)}\n"


def write(
    folder: Path,
    values: Mapping[str, object],
    errors: Iterable[str] = (),
    warnings: Iterable[str] = (),
) -> Path:
    """Write detail and summary of these values and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    faults = list(errors)
    detail = [line(key, value) for key, value in values.items()]
    told = [line("error_runtime", text, error=True) for text in faults]
    told += [line("warning_generic_message", text, warning=True) for text in warnings]
    detail[4:4] = told
    (folder / "mlperf_log_detail.txt").write_text("".join(detail))
    summary = ""
    if "result_validity" in values:
        summary = (
            f"SUT name : {values['sut_name']}\n"
            f"Scenario : {values['effective_scenario']}\n"
            f"Mode     : {values['effective_test_mode']}\n"
            f"Result is : {values['result_validity']}\n"
        )
    summary += "\nNo warnings encountered during test.\n\n"
    count = f"{len(faults)} ERRORS" if faults else "No errors"
    (folder / "mlperf_log_summary.txt").write_text(
        f"{summary}{count} encountered during test.\n"
    )
    return folder


SCRIPT = """
import array, json, sys, time
import mlperf_loadgen as lg

folder, model, scenario, mode, attributes = json.loads(sys.argv[1])
settings = lg.TestSettings()
settings.FromConfig("", model, scenario, 0)
settings.scenario = getattr(lg.TestScenario, scenario)
settings.mode = getattr(lg.TestMode, mode)
for name, value in attributes.items():
    setattr(settings, name, value)

def issue(queries):
    time.sleep(0.001 if "Stream" in scenario else 0)
    if scenario == "Offline" and mode == "PerformanceOnly":
        time.sleep(settings.min_duration_ms / 1000)
    answers = [lg.QuerySampleResponse(q.id, ADDRESS, 4) for q in queries]
    lg.QuerySamplesComplete(answers)

ANSWER = array.array("B", b"0123")
ADDRESS = ANSWER.buffer_info()[0]
sut = lg.ConstructSUT(issue, lambda: None)
qsl = lg.ConstructQSL(1024, 1024, lambda indices: None, lambda indices: None)
log = lg.LogSettings()
log.enable_trace = False
log.log_output.outdir = folder
lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
"""


def real(folder: Path, scenario: str, mode: str, **attributes: Any) -> Path:
    """Run the bare LoadGen binding on an instant SUT of 1024 samples, as resnet50.

    One second and 1000 queries a second unless ``attributes`` of TestSettings say
    other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "min_duration_ms": 1000,
        "server_target_qps": 1000.0,
        "offline_expected_qps": 1000.0,
        "single_stream_expected_latency_ns": 1_000_000,
        "multi_stream_expected_latency_ns": 1_000_000,
        "min_query_count": 662 if scenario == "MultiStream" else 100,
        **attributes,
    }
    job = json.dumps([str(folder), "resnet50", scenario, mode, settings])
    subprocess.run([sys.executable, "-c", SCRIPT, job], check=True, timeout=60)
    return folder
