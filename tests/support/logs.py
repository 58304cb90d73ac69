"""Small log folders in LoadGen's format, computed from latencies, and real runs.

What is built here is as LoadGen 6.0 writes it; a real run in the tests holds the
builder against LoadGen itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core import rounds
from pytest_mlperf.core.logs.summary import list_expected_lines
from tests.support.pauses import TICK

PERCENTILES = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
TARGET = {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99, "Offline": 0.99}
LOADED = 1024
COUNTERS = (
    "logger_swap_request_slots_retry_count",
    "logger_swap_request_slots_retry_retry_count",
    "logger_swap_request_slots_retry_reencounter_count",
    "logger_start_reading_entries_retry_count",
    "logger_tls_total_log_cas_fail_count",
    "logger_tls_total_swap_buffers_slot_retry_count",
)
"""Of LoadGen's own logger; nobody judges them."""


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


@dataclass(frozen=True)
class Tokens:
    """The bounds of a token run, nanoseconds; an answer is of so many tokens."""

    ttft_ns: int = 2_000_000_000
    tpot_ns: int = 200_000_000
    count: int = 101


def performance(
    folder: Path,
    scenario: str,
    *,
    latencies: Sequence[int] | None = None,
    change: Mapping[str, object] | None = None,
    summary: Mapping[str, object] | None = None,
    drop: Iterable[str] = (),
    errors: Iterable[str] = (),
    warnings: Iterable[str] = (),
    target_ns: int = 15_000_000,
    seeds: str = "v6.1",
    tokens: Tokens | None = None,
    loaded: int = LOADED,
    mirror: bool = True,
) -> Path:
    """Write a finished performance run and return its folder.

    ``change`` replaces or adds values of the detail log after all is computed, so
    that one line can be made to lie; ``drop`` leaves lines out. With ``mirror`` a
    changed setting was asked for as well. ``summary`` makes the summary alone lie.
    """
    taken = sorted(latencies or STORIES[scenario]["latencies"])
    own = {"loaded_qsl_set": list(range(loaded))}
    if scenario == "MultiStream":
        own["loaded_qsl_set"] += range(7)
    values = head(scenario, "PerformanceOnly", seeds, loaded)
    values |= asked(scenario, taken, target_ns, tokens)
    values |= own | results(scenario, taken, target_ns, tokens)
    values |= change or {}
    if mirror:
        values |= mirrored(scenario, change or {}, values)
    for key in drop:
        values.pop(key, None)
    return write(folder, values, errors, warnings, summary)


def mirrored(
    scenario: str, change: Mapping[str, object], values: Mapping[str, Any]
) -> dict[str, object]:
    """Return what LoadGen would log had the changed settings been asked for."""
    name = {"SingleStream": "single_stream", "MultiStream": "multi_stream"}
    own = name.get(scenario, scenario.lower())
    found: dict[str, object] = {}
    if "loadgen_version" in change:
        commit = str(change["loadgen_version"]).rpartition(" @ ")[2]
        found["loadgen_git_log_message"] = f"{commit} Another commit"
    for key, value in change.items():
        twin = key.replace("effective_", "requested_")
        special = {
            "effective_target_latency_ns": f"requested_{own}_target_latency_ns",
            "effective_target_latency_percentile": (
                f"requested_{own}_target_latency_percentile"
            ),
            "effective_performance_sample_count": (
                "requested_performance_sample_count_override"
            ),
            "effective_target_qps": (
                "requested_server_target_qps"
                if scenario == "Server"
                else "requested_offline_expected_qps"
            ),
            "effective_samples_per_query": f"requested_{own}_samples_per_query",
        }
        twin = special.get(key, twin)
        if key.startswith("effective_") and twin in values and twin not in change:
            found[twin] = value
    if scenario != "Offline" and "effective_min_duration_ms" in change:
        found["effective_target_duration_ms"] = values["effective_min_duration_ms"]
    if "effective_min_sample_count" not in change:
        with suppress(TypeError, KeyError, OverflowError):
            product = values["effective_min_query_count"]
            product *= values["effective_samples_per_query"]
            found["effective_min_sample_count"] = product
    return found


def head(
    scenario: str, mode: str, seeds: str, loaded: int = LOADED, total: int = 50_000
) -> dict[str, object]:
    """Return what every log begins with."""
    own = rounds.get(seeds).seeds
    both: dict[str, object] = {
        "scenario": scenario,
        "test_mode": mode,
        "min_duration_ms": 600_000,
        "max_duration_ms": 0,
        "min_query_count": 100,
        "max_query_count": 0,
        "qsl_rng_seed": own.qsl,
        "sample_index_rng_seed": own.sample_index,
        "schedule_rng_seed": own.schedule,
        "accuracy_log_rng_seed": 0,
        "accuracy_log_probability": 0,
        "accuracy_log_sampling_target": 0,
        "print_timestamps": False,
        "performance_issue_unique": False,
        "performance_issue_same": False,
        "performance_issue_same_index": 0,
        "sample_concatenate_permutation": False,
    }
    return {
        "loadgen_version": "6.0.17 @ d6147c7eb7",
        "loadgen_build_date_local": "2026-07-24T17:39:47.375441",
        "loadgen_build_date_utc": "2026-07-24T17:39:47.375453",
        "loadgen_git_commit_date": "2026-07-24T17:36:50Z",
        "loadgen_git_log_message": "d6147c7eb760c75ac2f7f2dd379719afb090d87c",
        "loadgen_git_status_message": "",
        "loadgen_file_sha1": {"/CMakeLists.txt": "a8ebd64f62d0349aeedbe3295d833ebd"},
        "test_datetime": "2026-11-22T05:59:59Z",
        "sut_name": "PySUT",
        "get_sut_name_duration_ns": 501,
        "qsl_name": "PyQSL",
        "qsl_reported_total_count": total,
        "qsl_reported_performance_count": loaded,
        **{f"requested_{name}": value for name, value in both.items()},
        "requested_performance_sample_count_override": loaded,
        "requested_accuracy_sample_count_override": 0,
        **{f"effective_{name}": value for name, value in both.items()},
        "effective_performance_sample_count": loaded,
        "effective_accuracy_sample_count": total,
    }


def six(value: float) -> float:
    """Return a real number as LoadGen logs it: six digits."""
    return float(f"{value:.6g}")


def asked(
    scenario: str,
    taken: Sequence[int],
    target_ns: int,
    tokens: Tokens | None = None,
) -> dict[str, object]:
    """Return the settings of a run of the official length."""
    count = len(taken)
    per_query = {"MultiStream": 8, "Offline": count}.get(scenario, 1)
    seconds = sum(taken) / 1e9 if "Stream" in scenario else max(taken[-1] / 1e9, 605)
    offline = scenario == "Offline"
    if "Stream" in scenario:
        expected = seconds * 1e9 / count
        qps = six(1e9 / expected)
        name = "multi_stream" if scenario == "MultiStream" else "single_stream"
        own: dict[str, object] = {
            f"requested_{name}_expected_latency_ns": six(expected),
            f"requested_{name}_target_latency_percentile": TARGET[scenario],
        }
        if scenario == "MultiStream":
            own["requested_multi_stream_samples_per_query"] = per_query
    elif offline:
        qps = six(count / 660)
        own = {"requested_offline_expected_qps": qps}
        own["requested_min_query_count"] = count
    else:
        qps = six(count / seconds)
        own = {
            "requested_server_target_qps": qps,
            "requested_server_target_latency_ns": target_ns,
            "requested_server_target_latency_percentile": TARGET[scenario],
            "requested_server_coalesce_queries": False,
            "requested_server_find_peak_qps_decimals_of_precision": 1,
            "requested_server_find_peak_qps_boundary_step_size": 1,
            "requested_server_max_async_queries": 0,
            "requested_server_num_issue_query_threads": 0,
        }
    if tokens:
        own["requested_use_token_latencies"] = True
        if not offline:
            own["requested_server_ttft_latency"] = tokens.ttft_ns
            own["requested_server_tpot_latency"] = tokens.tpot_ns
    least = 1 if offline else 100
    made = seconds + taken[-1] / 1e9 if scenario == "Server" else seconds
    return own | {
        "effective_samples_per_query": per_query,
        "effective_target_qps": qps,
        "effective_target_latency_ns": target_ns if scenario == "Server" else 0,
        "effective_target_latency_percentile": TARGET[scenario],
        "effective_max_async_queries": 0 if scenario == "Server" else 1,
        "effective_target_duration_ms": 0 if offline else 600_000,
        "effective_min_query_count": least,
        "effective_min_sample_count": least * per_query,
        "generic_message": "Starting performance mode",
        "generated_query_count": 1 if offline else count,
        "generated_samples_per_query": per_query,
        "generated_query_duration": int(seconds * 1e9),
        **dict.fromkeys(COUNTERS, 0),
        "power_begin": "11-22-2026 06:00:00.000",
        "power_end": clock(made),
    }


def clock(seconds: float) -> str:
    """Return the time stamp so long after six o'clock."""
    whole = int(seconds)
    hours, minutes = 6 + whole // 3600, whole // 60 % 60
    fraction = int(seconds % 1 * 1000)
    return f"11-22-2026 {hours:02}:{minutes:02}:{whole % 60:02}.{fraction:03}"


def spread(form: str, ends: str, taken: Sequence[int]) -> dict[str, object]:
    """Return minimum, maximum, mean and percentiles by LoadGen's arithmetic."""
    count = len(taken)
    values: dict[str, object] = {
        ends.format("min"): taken[0],
        ends.format("max"): taken[-1],
        ends.format("mean"): sum(taken) // count,
    }
    for share in PERCENTILES:
        values[form.format(f"{share * 100:.2f}")] = taken[int(count * share)]
    return values


def results(
    scenario: str,
    taken: Sequence[int],
    target_ns: int,
    tokens: Tokens | None = None,
) -> dict[str, object]:
    """Return LoadGen's results of these latencies, by its own arithmetic."""
    count = len(taken)
    queries = 1 if scenario == "Offline" else count
    over = sum(latency > target_ns for latency in taken)
    percentile = TARGET[scenario]
    first = [latency // 10 for latency in taken]
    each = [
        (latency - start) // (tokens.count - 1) if tokens else 0
        for latency, start in zip(taken, first, strict=True)
    ]
    met, texts = True, {"early_stopping_result": ""}
    in_time = scenario != "Server" or taken[int(count * 0.99)] <= target_ns
    values: dict[str, object] = {}
    if "Stream" in scenario:
        estimated = first if tokens and scenario == "SingleStream" else taken
        met, texts, values = estimates(scenario, estimated)
    elif scenario == "Server" and tokens:
        bounds = {"ttft": (first, tokens.ttft_ns), "tpot": (each, tokens.tpot_ns)}
        late = {k: sum(v > bound for v in of) for k, (of, bound) in bounds.items()}
        proved = {k: early_stopping.is_proof(count, t, 0.99) for k, t in late.items()}
        in_time = all(of[int(count * 0.99)] <= b for of, b in bounds.values())
        met = all(proved.values())
        texts = {
            f"early_stopping_{kind}_result": success(count, late[kind])
            for kind in bounds
        }
    elif scenario == "Server":
        met = early_stopping.is_proof(count, over, percentile)
        texts = {"early_stopping_result": success(count, over)}
    if tokens and "early_stopping_result" in texts:
        text = texts.pop("early_stopping_result")
        texts["early_stopping_ttft_result"] = text
        texts["early_stopping_tpot_result"] = text
    values |= {
        "result_validity": "VALID" if met and in_time else "INVALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": met,
        **texts,
        "result_query_count": queries,
        **spread("result_{}_percentile_latency_ns", "result_{}_latency_ns", taken),
    }
    if scenario == "MultiStream":
        form = "result_{}_percentile_per_query_latency_ns"
        values |= spread(form, "result_{}_query_latency_ns", taken)
    if not (met and in_time):
        reason = "" if in_time else "Reduce target QPS to improve latency. "
        values["result_invalid_reason"] = reason
    mean = sum(taken) // count
    seconds = sum(taken[:-1]) / 1e9
    if scenario == "SingleStream":
        values["result_qps_with_loadgen_overhead"] = six((count - 1) / seconds)
        values["result_qps_without_loadgen_overhead"] = six(1e9 / mean)
    elif scenario == "Server":
        scheduled = max(taken[-1] / 1e9, 605)
        seconds = scheduled + taken[-1] / 1e9
        values["result_perf_constraints_met"] = in_time
        values["result_overlatency_query_count"] = over
        values["result_scheduled_samples_per_sec"] = six((count - 1) / scheduled)
        values["result_completed_samples_per_sec"] = six((count - 1) / seconds)
    elif scenario == "Offline":
        values["result_samples_per_second"] = six(count * 1e9 / taken[-1])
    if tokens and scenario == "Offline":
        rate = tokens.count * count * 1e9 / taken[-1]
        values["result_tokens_per_second"] = six(rate)
    elif tokens:
        total = tokens.count * count
        form = "result_first_token_{}_percentile_latency_ns"
        values |= spread(form, "result_first_token_{}_latency_ns", first)
        form = "result_time_per_output_token_{}_percentile_ns"
        values |= spread(form, "result_time_to_output_token_{}", each)
        key = "result_token_throughput"
        values[f"{key}_with_loadgen_overhead"] = six(total / seconds)
        values[key] = six(total / (mean * count))
        values["result_completed_tokens_per_second"] = six(total / seconds)
    return values | {"num_errors": 0}


def success(count: int, over: int) -> str:
    """Return what LoadGen says of a Server run's early stopping."""
    needed = early_stopping.count_queries_needed(over, 0.99)
    if count >= needed:
        return " * Run successful."
    return (
        f" * Run unsuccessful.  * Processed {count} queries.  * Would need to run at"
        f" least {needed - count} more queries,  with the run being successful if"
        " every additional  query were under latency."
    )


def estimates(
    scenario: str, taken: Sequence[int]
) -> tuple[bool, dict[str, str], dict[str, object]]:
    """Return whether a stream has an estimate, LoadGen's words, and the numbers."""
    count, own = len(taken), TARGET[scenario]
    needed = early_stopping.count_queries_needed(1, own)
    left_out = early_stopping.count_discarded(count, own)
    key = "early_stopping_latency_ms"
    values: dict[str, object] = {key: 0}
    if scenario == "SingleStream":
        values = {"early_stopping_latency_ss": 0, key: 0}
        key = "early_stopping_latency_ss"
    if left_out is None:
        text = f" * Only processed {count} queries.  * Need to process at least"
        text += f" {needed} queries for early stopping."
        return False, {"early_stopping_result": text}, values
    values[key] = taken[count - left_out - 1]
    text = f" * Processed at least {needed} queries ({count}). "
    text += f" * Would discard {left_out} highest latency queries. "
    text += f" * Early stopping {own * 100:.1f}th percentile estimate: {values[key]}"
    if scenario == "SingleStream":
        left_out = early_stopping.count_discarded(count, 0.99)
        if left_out is None:
            text += "  * Not enough queries processed for 99.0th percentile"
            text += "  early stopping estimate (would need to process at  least 662"
            text += " total queries)."
        else:
            values["early_stopping_latency_ms"] = taken[count - left_out - 1]
            text += "  * Early stopping 99.0th percentile estimate:"
            text += f" {values['early_stopping_latency_ms']}"
    return True, {"early_stopping_result": text}, values


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
    values = head(scenario, "AccuracyOnly", "v6.1", total, total)
    values |= asked(scenario, [1_000_000] * total, 15_000_000)
    values |= {
        "generic_message": "Starting accuracy mode",
        "loaded_qsl_set": list(range(total)),
        "power_begin": "11-22-2026 06:00:00.000",
        "power_end": clock(3.5),
    }
    values |= change or {}
    values |= mirrored(scenario, change or {}, values)
    write(folder, values, errors)
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
    summary: Mapping[str, object] | None = None,
) -> Path:
    """Write detail and summary of these values and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    faults = list(errors)
    detail = [line(key, value) for key, value in values.items()]
    told = [line("error_runtime", text, error=True) for text in faults]
    told += [line("warning_generic_message", text, warning=True) for text in warnings]
    detail[4:4] = told
    (folder / "mlperf_log_detail.txt").write_text("".join(detail))
    text = ""
    if "result_validity" in values:
        text = summarised({**values, **(summary or {})})
    text += "\nNo warnings encountered during test.\n"
    count = "\nNo errors encountered during test."
    if faults:
        name = "1 ERROR" if len(faults) == 1 else f"{len(faults)} ERRORS"
        count = f"\n{name} encountered. See detailed log."
    (folder / "mlperf_log_summary.txt").write_text(f"{text}{count}\n")
    return folder


def summarised(values: Mapping[str, Any]) -> str:
    """Return the lines of a summary that repeat the detail log's values."""
    lines = ["=" * 48, "MLPerf Results Summary", "=" * 48]
    share = values["effective_target_latency_percentile"]
    asked = f"_{share * 100:.2f}_" if isinstance(share, float) else "none"
    for told in list_expected_lines(values):
        # Bounds of tokens that LoadGen does not use are in the summary alone.
        value = values.get(told.key, 100_000_000)
        if not told.needed and asked not in told.key:
            continue
        if isinstance(value, bool):
            setting = told.key.startswith("effective_")
            text = str(int(value)) if setting else ("Yes" if value else "NO")
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        lines.append(f"{told.labels[0]} : {text}")
    for kind in ("", "ttft_", "tpot_"):
        # The detail log has spaces for the ends of the lines.
        text = str(values.get(f"early_stopping_{kind}result", ""))
        lines.append(text.replace("  ", "\n "))
    return "\n".join(lines) + "\n"


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
watch = begin_watch(folder)
lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
end_watch(watch)
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
    subprocess.run([sys.executable, "-c", TICK + SCRIPT, job], check=True, timeout=300)
    return folder


def on_time(folder: Path, scenario: str, **attributes: Any) -> Path:
    """Make a real performance run that answers every query within Server's bound.

    A busy machine is late now and then, which is not what the caller is about: such a
    run is repeated, five times at most.
    """
    for _ in range(5):
        real(folder, scenario, "PerformanceOnly", **attributes)
        detail = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8")
        late = re.search(r'"result_overlatency_query_count", "value": (\d+)', detail)
        if late is None or late[1] == "0":
            break
    return folder
