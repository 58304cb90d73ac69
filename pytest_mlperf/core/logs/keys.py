"""Every key that LoadGen writes into a detail log: its type, and in which logs it is.

Source: loadgen.cc, results.cc, test_settings_internal.cc, version.cc and logging.cc of
mlcommons/inference, tags v1.0.1 to v5.1.1 and b66003e1.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pytest_mlperf.core.logs.dialect import LogDialect
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.rounds.rule import Rule

LOGGED = (0.5, 0.9, 0.95, 0.97, 0.99, 0.999)
"""The percentiles that LoadGen reports."""
LATENCY = "result_{}_percentile_latency_ns"
QUERY_LATENCY = "result_{}_percentile_per_query_latency_ns"
FIRST_TOKEN_LATENCY = "result_first_token_{}_percentile_latency_ns"  # noqa: S105
TOKEN_LATENCY = "result_time_per_output_token_{}_percentile_ns"  # noqa: S105
"""Keys of a percentile, which is ``format_share``'s: of samples, of MultiStream's
queries, to the first token, and of each that follows."""


def format_share(share: float) -> str:
    """Return a percentile as LoadGen's keys have it: ``99.00``."""
    return f"{share * 100:.2f}"


SHARES = tuple(map(format_share, LOGGED))


def list_bounds(rule: Rule) -> dict[str, int]:
    """Return the key of each latency that a rule bounds, at its percentile -> the
    bound, ns.
    """
    share = format_share(rule.percentile or 0.99)
    bounds = {
        LATENCY: rule.target_latency_ns,
        FIRST_TOKEN_LATENCY: rule.ttft_ns,
        TOKEN_LATENCY: rule.tpot_ns,
    }
    return {key.format(share): bound for key, bound in bounds.items() if bound}


class ValueKind(enum.Enum):
    """What a value has to be; the text completes "should be"."""

    INTEGER = "a whole number of 64 bits"
    NUMBER = "a finite number"
    FLAG = "true or false"
    TEXT = "a text"
    INDICES = "a list of sample indices"
    MAP = "an object"

    def fits(self, value: Any) -> bool:
        """True for a value of this kind; a truth value is no number."""
        if self is ValueKind.INTEGER:
            return type(value) is int and -(2**63) <= value < 2**64
        if self is ValueKind.NUMBER:
            if type(value) is int:
                return -(2**63) <= value < 2**64
            return type(value) is float and abs(value) < float("inf")
        return type(value) is _TYPES[self]


_TYPES = {
    ValueKind.FLAG: bool,
    ValueKind.TEXT: str,
    ValueKind.INDICES: list,
    ValueKind.MAP: dict,
}

HEAD = """
loadgen_version:TEXT loadgen_build_date_local:TEXT loadgen_build_date_utc:TEXT
loadgen_git_commit_date:TEXT loadgen_git_log_message:TEXT
loadgen_git_status_message:TEXT loadgen_file_sha1:MAP test_datetime:TEXT sut_name:TEXT
qsl_name:TEXT qsl_reported_total_count:INTEGER qsl_reported_performance_count:INTEGER
"""
# A setting is logged twice: as requested, and as LoadGen resolved it.
BOTH = """
scenario:TEXT test_mode:TEXT max_duration_ms:INTEGER max_query_count:INTEGER
min_duration_ms:INTEGER min_query_count:INTEGER qsl_rng_seed:INTEGER
sample_index_rng_seed:INTEGER schedule_rng_seed:INTEGER accuracy_log_rng_seed:INTEGER
accuracy_log_probability:NUMBER accuracy_log_sampling_target:INTEGER
print_timestamps:FLAG performance_issue_unique:FLAG performance_issue_same:FLAG
performance_issue_same_index:INTEGER
"""
RESOLVED = """
requested_performance_sample_count_override:INTEGER
effective_performance_sample_count:INTEGER effective_samples_per_query:INTEGER
effective_target_qps:NUMBER effective_target_latency_ns:INTEGER
effective_target_latency_percentile:NUMBER effective_max_async_queries:INTEGER
effective_target_duration_ms:INTEGER effective_min_sample_count:INTEGER
"""
RUN = """
loaded_qsl_set:INDICES generated_query_count:INTEGER
generated_samples_per_query:INTEGER generated_query_duration:INTEGER
power_begin:TEXT power_end:TEXT logger_swap_request_slots_retry_count:INTEGER
logger_swap_request_slots_retry_retry_count:INTEGER
logger_swap_request_slots_retry_reencounter_count:INTEGER
logger_start_reading_entries_retry_count:INTEGER
logger_tls_total_log_cas_fail_count:INTEGER
logger_tls_total_swap_buffers_slot_retry_count:INTEGER
"""
ASKED = {
    "SingleStream": """
requested_single_stream_expected_latency_ns:NUMBER
requested_single_stream_target_latency_percentile:NUMBER
""",
    "MultiStream": """
requested_multi_stream_expected_latency_ns:NUMBER
requested_multi_stream_target_latency_percentile:NUMBER
requested_multi_stream_samples_per_query:INTEGER
""",
    "Server": """
requested_server_target_qps:NUMBER requested_server_target_latency_ns:INTEGER
requested_server_target_latency_percentile:NUMBER
requested_server_coalesce_queries:FLAG requested_server_max_async_queries:INTEGER
requested_server_find_peak_qps_decimals_of_precision:INTEGER
requested_server_find_peak_qps_boundary_step_size:NUMBER
requested_server_num_issue_query_threads:INTEGER
""",
    "Offline": "requested_offline_expected_qps:NUMBER",
}
RESULT = """
result_validity:TEXT result_min_duration_met:FLAG result_min_queries_met:FLAG
early_stopping_met:FLAG result_query_count:INTEGER result_min_latency_ns:INTEGER
result_max_latency_ns:INTEGER result_mean_latency_ns:INTEGER
"""
RESULT += " ".join(f"{LATENCY.format(p)}:INTEGER" for p in SHARES)
RESULTS = {
    "SingleStream": """
result_qps_with_loadgen_overhead:NUMBER result_qps_without_loadgen_overhead:NUMBER
early_stopping_latency_ss:INTEGER early_stopping_latency_ms:INTEGER
""",
    "MultiStream": """
result_min_query_latency_ns:INTEGER result_max_query_latency_ns:INTEGER
result_mean_query_latency_ns:INTEGER early_stopping_latency_ms:INTEGER
"""
    + " ".join(f"{QUERY_LATENCY.format(p)}:INTEGER" for p in SHARES),
    "Server": """
result_perf_constraints_met:FLAG result_overlatency_query_count:INTEGER
result_scheduled_samples_per_sec:NUMBER result_completed_samples_per_sec:NUMBER
""",
    "Offline": "result_samples_per_second:NUMBER",
}
TOKENS_ASKED = """
requested_server_ttft_latency:INTEGER requested_server_tpot_latency:INTEGER
"""
TOKENS = """
result_first_token_min_latency_ns:INTEGER result_first_token_max_latency_ns:INTEGER
result_first_token_mean_latency_ns:INTEGER result_time_to_output_token_min:INTEGER
result_time_to_output_token_max:INTEGER result_time_to_output_token_mean:INTEGER
result_token_throughput_with_loadgen_overhead:NUMBER result_token_throughput:NUMBER
"""
TOKENS += " ".join(
    f"{FIRST_TOKEN_LATENCY.format(p)}:INTEGER {TOKEN_LATENCY.format(p)}:INTEGER"
    for p in SHARES
)
SOMETIMES = """
get_sut_name_duration_ns:INTEGER requested_use_token_latencies:FLAG
result_invalid_reason:TEXT requested_accuracy_sample_count_override:INTEGER
effective_accuracy_sample_count:INTEGER generic_message:TEXT
requested_sample_concatenate_permutation:FLAG
effective_sample_concatenate_permutation:FLAG early_stopping_result:TEXT
early_stopping_ttft_result:TEXT early_stopping_tpot_result:TEXT num_errors:INTEGER
result_completed_tokens_per_second:NUMBER result_tokens_per_second:NUMBER
result_inferred_completed_tokens_per_second:NUMBER
result_inferred_tokens_per_second:NUMBER
"""


def _parse_table(*texts: str) -> dict[str, ValueKind]:
    pairs = (word.split(":") for word in " ".join(texts).split())
    return {key: ValueKind[kind] for key, kind in pairs}


def _settings() -> Iterator[str]:
    for word in BOTH.split():
        yield f"requested_{word}"
        yield f"effective_{word}"


SETTINGS = _parse_table(*_settings())
ALWAYS = frozenset(_parse_table(HEAD, RESOLVED, RUN) | SETTINGS)
KINDS: Mapping[str, ValueKind] = {
    **_parse_table(HEAD, RESOLVED, RUN, RESULT, TOKENS_ASKED, TOKENS, SOMETIMES),
    **_parse_table(*ASKED.values(), *RESULTS.values()),
    **SETTINGS,
}
PER_SET = frozenset(_parse_table(RUN))
"""In an accuracy run once for each set of samples that was loaded."""


SINCE: Mapping[str, Trait] = {
    "requested_multi_stream_expected_latency_ns": Trait.QUERY_INTERVALS_GONE,
    "result_min_query_latency_ns": Trait.QUERY_INTERVALS_GONE,
    "result_max_query_latency_ns": Trait.QUERY_INTERVALS_GONE,
    "result_mean_query_latency_ns": Trait.QUERY_INTERVALS_GONE,
    "early_stopping_met": Trait.EARLY_STOPPING,
    "early_stopping_result": Trait.EARLY_STOPPING,
    "early_stopping_latency_ss": Trait.EARLY_STOPPING,
    "early_stopping_latency_ms": Trait.EARLY_STOPPING,
    "result_query_count": Trait.QUERY_COUNT,
    "result_overlatency_query_count": Trait.QUERY_COUNT,
    "get_sut_name_duration_ns": Trait.SUT_NAME_TIMED,
    "requested_use_token_latencies": Trait.TOKENS,
    "requested_server_ttft_latency": Trait.TOKENS,
    "requested_server_tpot_latency": Trait.TOKENS,
    "early_stopping_ttft_result": Trait.PER_TOKEN_LATENCIES,
    "early_stopping_tpot_result": Trait.PER_TOKEN_LATENCIES,
    "result_completed_tokens_per_second": Trait.RATE_OF_ANSWERED,
    "requested_sample_concatenate_permutation": Trait.PERMUTATION_LOGGED,
    "effective_sample_concatenate_permutation": Trait.PERMUTATION_LOGGED,
    "num_errors": Trait.ERRORS_COUNTED,
    "requested_accuracy_sample_count_override": Trait.ACCURACY_COUNT,
    "effective_accuracy_sample_count": Trait.ACCURACY_COUNT,
    **dict.fromkeys(_parse_table(TOKENS), Trait.PER_TOKEN_LATENCIES),
}
"""Key -> what LoadGen has logged it since; every other key is as old as the format."""
IN_EVERY_LOG = frozenset(
    {
        "get_sut_name_duration_ns",
        "requested_sample_concatenate_permutation",
        "effective_sample_concatenate_permutation",
        "requested_accuracy_sample_count_override",
        "effective_accuracy_sample_count",
    }
)
"""Of these, what a log of any mode and scenario has."""
OPTIONAL = frozenset(
    {
        "generic_message",
        "result_invalid_reason",
        "requested_use_token_latencies",
        "result_inferred_completed_tokens_per_second",
        "result_inferred_tokens_per_second",
    }
)
"""What a log may have and need not."""


@lru_cache(maxsize=512)
def list_required_keys(
    scenario: str, dialect: LogDialect, *, tokens: bool, ran: bool
) -> frozenset[str]:
    """Return the keys that a whole log must have.

    ``ran``: it is a performance run's, which ends with results. What LoadGen has
    written only since some commit is asked of builds of that commit and later.
    """
    keys = {*ALWAYS, *IN_EVERY_LOG, *_parse_table(ASKED.get(scenario, ""))}
    offline = scenario == "Offline"
    if tokens and not offline:
        keys.update(_parse_table(TOKENS_ASKED))
    if ran:
        keys.update(_parse_table(RESULT, RESULTS.get(scenario, "")), {"num_errors"})
        kinds = ("ttft_", "tpot_") if tokens else ("",)
        keys.update(f"early_stopping_{kind}result" for kind in kinds)
        if tokens and not offline:
            keys.update(_parse_table(TOKENS))
        if tokens:
            name = "tokens_per_second" if offline else "completed_tokens_per_second"
            keys.add(f"result_{name}")
    return frozenset(key for key in keys if key not in SINCE or dialect.has(SINCE[key]))


def find_later_key(
    values: Mapping[str, Any], dialect: LogDialect
) -> tuple[str, Trait] | None:
    """Return a key that only later LoadGens write, and since when; None without."""
    for key, trait in SINCE.items():
        if key in values and not dialect.has(trait):
            return key, trait
    return None


def find_foreign_key(values: Mapping[str, Any], required: frozenset[str]) -> str | None:
    """Return a key that LoadGen writes in runs of another kind only; None without.

    ``required``: all of this kind's. Keys that no LoadGen is known to write are none of
    another kind. No official log has a foreign key.
    """
    known = (key for key in values if key in KINDS and key not in OPTIONAL)
    return next((key for key in known if key not in required), None)
