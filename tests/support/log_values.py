"""What LoadGen logs of made-up latencies, key by key, by its own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core import rounds

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


@dataclass(frozen=True)
class Tokens:
    """The bounds of a token run, nanoseconds; an answer is of so many tokens."""

    ttft_ns: int = 2_000_000_000
    tpot_ns: int = 200_000_000
    count: int = 101


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
