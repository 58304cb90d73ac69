"""The summary: which lines LoadGen writes there, and what they must say.

Source: loadgen/results.cc and test_settings_internal.cc, LogSummary, of mlcommons/
inference, tags v2.0 to v5.1.1 and b66003e1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import RESULTS
from pytest_mlperf.core.logs.keys import SHARES
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import read_lines

SUMMARY = "mlperf_log_summary.txt"
WARNINGS = re.compile(
    r"No warnings encountered during test\."
    r"|(?:1 warning|(\d{1,18}) warnings) encountered\. See detailed log\.",
    re.IGNORECASE,
)
ERRORS = re.compile(
    r"No errors encountered during test\."
    r"|(?:1 error|(\d{1,18}) errors) encountered\. See detailed log\.",
    re.IGNORECASE,
)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
LONGEST_LINE = 1 << 16
KEPT = 2000
"""Labels; LoadGen writes about 60."""

SETTINGS = """
samples_per_query target_qps max_async_queries min_query_count max_query_count
qsl_rng_seed sample_index_rng_seed schedule_rng_seed accuracy_log_rng_seed
accuracy_log_probability accuracy_log_sampling_target print_timestamps
performance_issue_unique performance_issue_same performance_issue_same_index
performance_sample_count accuracy_sample_count
"""
ALWAYS = {
    "SUT name": "sut_name",
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
    "Result is": "result_validity",
    "Performance constraints satisfied": "result_perf_constraints_met",
    "Min duration satisfied": "result_min_duration_met",
    "Min queries satisfied": "result_min_queries_met",
    "Early stopping satisfied": "early_stopping_met",
    "min_duration (ms)": "effective_min_duration_ms",
    "max_duration (ms)": "effective_max_duration_ms",
    "QPS w/ loadgen overhead": "result_qps_with_loadgen_overhead",
    "QPS w/o loadgen overhead": "result_qps_without_loadgen_overhead",
    "Samples per second": "result_samples_per_second",
    "Scheduled samples per second": "result_scheduled_samples_per_sec",
    **{name: f"effective_{name}" for name in SETTINGS.split()},
}
HEADLINES = {
    f"{float(share):.{n}f}th percentile latency (ns)"
    for share in SHARES
    for n in (0, 1)
}
PLAIN = {
    "target_latency (ns)": "effective_target_latency_ns",
    "Completed samples per second": "result_completed_samples_per_sec",
}
TOKENS = {
    "Tokens per second": "result_tokens_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "ttft_latency (ns)": "requested_server_ttft_latency",
    "tpot_latency (ns)": "requested_server_tpot_latency",
    **{
        f"{p} percentile first token latency (ns)": FIRST_TOKEN_LATENCY.format(p)
        for p in SHARES
    },
    **{
        f"{p} percentile time to output token (ns)": TOKEN_LATENCY.format(p)
        for p in SHARES
    },
    **{
        f"{name} First Token latency (ns)": (
            f"result_first_token_{name.lower()}_latency_ns"
        )
        for name in ("Min", "Max", "Mean")
    },
}


UNUSED_BOUNDS = ("requested_server_ttft_latency", "requested_server_tpot_latency")
"""In the summary of any run with token latencies, and in Server's detail log alone."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One line of the summary: any of its spellings, and the key that it repeats."""

    labels: tuple[str, ...]
    key: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary that is whole."""

    fields: Mapping[str, str]
    """Label -> text."""
    lines: Mapping[str, int]
    notes: tuple[str, ...]
    """Lines that begin with a star: early stopping, and recommendations."""
    warnings: int
    errors: int
    """As its last lines count them."""


def list_expected_lines(detail: Mapping[str, Any]) -> tuple[Labelled, ...]:
    """Return the lines that the summary of a performance run has."""
    return tuple(
        line
        for line in _list_lines(detail)
        if line.key in detail or line.key in UNUSED_BOUNDS
    )


@lru_cache(maxsize=1)
def list_all_labels() -> frozenset[str]:
    """Return the labels of results and settings that LoadGen writes in any scenario."""
    kinds = (
        {"requested_scenario": scenario, "requested_use_token_latencies": tokens}
        for scenario in RESULTS
        for tokens in (True, False)
    )
    lines = chain.from_iterable(map(_list_lines, kinds))
    return frozenset(label for line in lines for label in line.labels)


def _list_lines(detail: Mapping[str, Any]) -> Iterator[Labelled]:
    scenario = detail.get("requested_scenario")
    tokens = detail.get("requested_use_token_latencies") is True
    for label, key in (ALWAYS | (TOKENS if tokens else PLAIN)).items():
        yield Labelled((label,), key)
    if tokens:
        for name in ("Min", "Max", "Mean"):
            # LoadGen 5.1.1 renamed it, and kept the percentiles' label.
            verbs = (f"{name} Time {verb} Output Token (ns)" for verb in ("to", "per"))
            key = f"result_time_to_output_token_{name.lower()}"
            yield Labelled(tuple(verbs), key)
        if scenario == "Server":
            key = "result_completed_tokens_per_second"
            yield Labelled(("Completed tokens per second",), key)
    query, per_query = "", ""
    if scenario == "MultiStream":
        query, per_query = "query_", "per_query_"
    for name in ("Min", "Max", "Mean"):
        key = f"result_{name.lower()}_{query}latency_ns"
        yield Labelled((f"{name} latency (ns)",), key)
    for share in SHARES:
        key = f"result_{share}_percentile_{per_query}latency_ns"
        yield Labelled((f"{share} percentile latency (ns)",), key)
        if scenario in ("SingleStream", "MultiStream"):
            # The headline is of one of them: the percentile that was asked for.
            names = (f"{float(share):.{n}f}th percentile latency (ns)" for n in (1, 0))
            yield Labelled(tuple(dict.fromkeys(names)), key, needed=False)


def read_summary(path: Path, wanted: tuple[Labelled, ...]) -> Summary:
    """Read a summary; ``LogError`` when it is not whole.

    ``wanted``: the lines it must have; none for an accuracy run, whose summary holds
    only the two counts.
    """
    fields: dict[str, str] = {}
    places: dict[str, int] = {}
    notes: list[str] = []
    warned = errors = None
    number = 0
    for number, text in read_lines(path, LONGEST_LINE):
        if CONTROL.search(text):
            raise LogError(path, number, "a control character", "plain text")
        if found := WARNINGS.fullmatch(text):
            warned = _once(path, number, warned, found)
        elif found := ERRORS.fullmatch(text):
            errors = _once(path, number, errors, found)
        elif text.startswith("*"):
            if len(notes) < KEPT:
                notes.append(" ".join(text.split()))
        else:
            _field(path, number, text, fields, places)
    if wanted and "Result is" not in fields:
        raise LogError(path, number, "no 'Result is' line", "LoadGen's verdict")
    if any(not line.needed for line in wanted) and not HEADLINES & fields.keys():
        found_text = "no percentile under the mode"
        raise LogError(path, number, found_text, "LoadGen's whole summary")
    for line in wanted:
        if line.needed and not any(label in fields for label in line.labels):
            found_text = f"no {line.labels[0]!r} line"
            raise LogError(path, number, found_text, "LoadGen's whole summary")
    expected = {label for line in wanted for label in line.labels}
    foreign = (fields.keys() & list_all_labels()) - expected if wanted else ()
    if foreign:
        label = min(foreign, key=places.__getitem__)
        required = "no such line: LoadGen has none in a run of this kind"
        raise LogError(path, places[label], f"a line {label!r}", required)
    if warned is None or errors is None:
        found_text = "the end of the summary without its count of errors"
        required = "'No errors encountered during test.'"
        raise LogError(path, number, found_text, required)
    return Summary(fields, places, tuple(notes), warned, errors)


def _once(path: Path, number: int, before: int | None, found: re.Match[str]) -> int:
    if before is not None:
        raise LogError(path, number, "a second summary", "one run a file")
    if found[0].lower().startswith("no "):
        return 0
    return int(found[1] or 1)


def _field(
    path: Path, number: int, text: str, fields: dict[str, str], places: dict[str, int]
) -> None:
    label, colon, value = text.partition(":")
    label, value = label.strip(), value.strip()
    if not colon or len(fields) >= KEPT:
        return
    if label in fields and (label == "SUT name" or fields[label] != value):
        if label == "SUT name":
            raise LogError(path, number, "a second summary", "one run a file")
        found = f"{label} {value[:40]}, at line {places[label]} {fields[label][:40]}"
        raise LogError(path, number, found, "one value a label")
    fields.setdefault(label, value)
    places.setdefault(label, number)
