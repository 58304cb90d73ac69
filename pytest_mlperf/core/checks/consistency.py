"""Does the log tell one story? What LoadGen writes twice has to be the same twice.

No official checker looks. The relations are LoadGen's own: test_settings_internal.cc,
loadgen.cc and results.cc of mlcommons/inference, tags v2.0 to b66003e1; every one of
the 2,900 published logs of round v5.1 keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_final_s
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.equal_issue import compute_min_queries
from pytest_mlperf.core.logs.equal_issue import count_set
from pytest_mlperf.core.logs.equal_issue import find_equal_issue
from pytest_mlperf.core.logs.equal_issue import generates_one_a_sample
from pytest_mlperf.core.logs.keys import SETTINGS
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.samples import ENDS
from pytest_mlperf.core.logs.samples import Loaded
from pytest_mlperf.core.settings import OFFLINE_SLACK
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

REMEDY = "repeat the run; a log that was changed proves nothing"
WRAPS = 2**63
"""LoadGen adds latencies up in 64 bits: a sum from here on gives no mean."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two places of a log that cannot both be right."""

    found: str
    required: str
    where: str


def check_contradiction(wrong: Contradiction | None, found: str, where: str) -> Outcome:
    """Return the outcome of a search for contradictions."""
    if wrong is None:
        return Outcome(True, found, found, where)
    return Outcome(False, wrong.found, wrong.required, wrong.where, REMEDY)


def compare_value(
    log: Log, key: str, other: str, required: float | bool | str
) -> Iterator[Contradiction]:
    """Yield a contradiction where a key does not have the value that it should."""
    found = log.get(key)
    if type(found) is float or type(required) is float:
        own, wanted = log.number(key), float(required)
        close = abs(own - wanted) <= SIX_DIGITS * abs(wanted)
    else:
        close = found == required
    if not close:
        yield Contradiction(
            f"{key} {found}", f"{required}, from {other}", log.where(key)
        )


def compare_range(
    log: Log, key: str, low: float, high: float, why: str
) -> Iterator[Contradiction]:
    """Yield a figure that is outside a range, by more than its digits explain."""
    value = log.number(key)
    if not low * (1 - SIX_DIGITS) <= value <= high * (1 + SIX_DIGITS):
        required = f"{low:,.8g}, {why}"
        if high > low * (1 + SIX_DIGITS):
            required = f"{low:,.8g} to {high:,.8g}, {why}"
        yield Contradiction(f"{key} {value:,.8g}", required, log.where(key))


@check("requested_settings", any_scenario=True)
def requested_settings(run: JudgedRun) -> Outcome:
    """Effective settings are the requested ones (LoadGen, TestSettingsInternal)."""
    log = run.log
    wrong = next(find_unlike_requested(log), None) or next(
        find_wrong_resolved(log), None
    )
    where = log.where("effective_scenario")
    return check_contradiction(wrong, "as requested", where)


def find_unlike_requested(log: Log) -> Iterator[Contradiction]:
    """Yield effective settings that differ from the requested ones."""
    names = {key.partition("_")[2] for key in SETTINGS}
    names |= {"sample_concatenate_permutation"} & {
        key.partition("_")[2] for key in log.values
    }
    for name in sorted(names - {"min_query_count"}):
        asked = f"requested_{name}"
        if asked in log.values:
            yield from compare_value(log, f"effective_{name}", asked, log.values[asked])
    scenario = log.text("effective_scenario").lower()
    stream = {"singlestream": "single_stream", "multistream": "multi_stream"}
    prefix = f"requested_{stream.get(scenario, scenario)}_target_latency"
    for ending in ("_ns", "_percentile"):
        if (asked := prefix + ending) in log.values:
            key = f"effective_target_latency{ending}"
            yield from compare_value(log, key, asked, log.values[asked])


def find_wrong_resolved(log: Log) -> Iterator[Contradiction]:
    """Yield computed settings that LoadGen would compute otherwise."""
    queries = log.integer("effective_min_query_count")
    per_query = log.integer("effective_samples_per_query")
    product = "min_query_count x samples_per_query"
    yield from compare_value(
        log, "effective_min_sample_count", product, queries * per_query
    )
    asked = "requested_performance_sample_count_override"
    if not log.integer(asked):
        asked = "qsl_reported_performance_count"
    key = "effective_performance_sample_count"
    yield from compare_value(log, key, asked, log.integer(asked))
    yield from find_wrong_rate(log)
    yield from find_wrong_counts(log, queries, per_query)


def find_wrong_rate(log: Log) -> Iterator[Contradiction]:
    """Yield the rate if it differs from the scenario's own setting."""
    scenario = log.text("effective_scenario")
    asked = {
        "SingleStream": "requested_single_stream_expected_latency_ns",
        "MultiStream": "requested_multi_stream_expected_latency_ns",
        "Server": "requested_server_target_qps",
        "Offline": "requested_offline_expected_qps",
    }.get(scenario)
    if asked is None:
        where = log.where("effective_scenario")
        yield Contradiction(scenario, "a LoadGen scenario", where)
        return
    value = log.number(asked)
    if scenario in ("SingleStream", "MultiStream"):
        value = 1e9 / value
    elif value < 0:
        value = 1.0
    yield from compare_value(log, "effective_target_qps", asked, float(value))


def find_wrong_counts(
    log: Log, queries: int, per_query: int
) -> Iterator[Contradiction]:
    """Yield the counts that do not follow from min_query_count and the duration."""
    scenario, key = log.text("effective_scenario"), "requested_min_query_count"
    asked = log.integer(key)
    fill_ms = 0 if scenario == "Offline" else log.integer("effective_min_duration_ms")
    name = "effective_target_duration_ms"
    yield from compare_value(log, name, "effective_min_duration_ms", fill_ms)
    if scenario == "Offline":
        yield from compare_value(log, "effective_min_query_count", "one query", 1)
        seconds = log.integer("effective_min_duration_ms") / 1000
        fill = OFFLINE_SLACK * seconds * log.number("effective_target_qps")
        wanted = max(float(asked), fill)
        same = log.flag("effective_performance_issue_same")
        same = same and not log.has(Trait.SAME_SAMPLE_LASTS)
        if same or log.flag("effective_performance_issue_unique"):
            wanted = log.number("effective_performance_sample_count")
        if abs(per_query - wanted) > 1 + SIX_DIGITS * wanted:
            spelled = f"about {wanted:,.0f}, from min_duration and target_qps"
            name = "effective_samples_per_query"
            yield Contradiction(f"{name} {per_query}", spelled, log.where(name))
        return
    name = "requested_multi_stream_samples_per_query"
    wanted_each = log.integer(name) if scenario == "MultiStream" else 1
    yield from compare_value(log, "effective_samples_per_query", scenario, wanted_each)
    if scenario == "SingleStream" and find_equal_issue(log):
        wanted, key = compute_min_queries(log), "whole passes of equal issue"
        # The rate that it follows from may be off by the digits that are logged.
        size = log.integer("qsl_reported_performance_count")
        if queries % max(size, 1) or abs(queries - wanted) > size + SIX_DIGITS * wanted:
            name = "effective_min_query_count"
            where = log.where(name)
            yield Contradiction(f"{name} {queries}", f"{wanted}, {key}", where)
        return
    yield from compare_value(log, "effective_min_query_count", key, asked)


@check("loaded_samples", any_scenario=True)
def loaded_samples(run: JudgedRun) -> Outcome:
    """The loaded sets are samples of the dataset, each once (GenerateLoadableSets).

    MultiStream repeats a set's first 7, so that its queries do not overflow.
    """
    wrong = next(find_wrong_loads(run), None)
    where = run.log.where("loaded_qsl_set")
    return check_contradiction(wrong, f"{run.log.covered:,} samples", where)


def find_wrong_loads(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield what is wrong with the loaded sets."""
    log, key = run.log, "loaded_qsl_set"
    where, total = log.where(key), log.integer("qsl_reported_total_count")
    set_size = log.integer("effective_performance_sample_count")
    sets = [remove_padding(log, one) for one in log.loaded]
    padding = sum(one.size for one in log.loaded) - sum(one.size for one in sets)
    for one in sets:
        if padding == ENDS and one.size >= ENDS and one.first != one.last:
            yield Contradiction("other samples at its end", "its first 7", where)
        if one.highest >= total:
            yield Contradiction(f"sample {one.highest}", f"below {total:,}", where)
        if one.size != one.distinct:
            found = f"{one.size - one.distinct:,} samples twice in one set"
            yield Contradiction(found, "each once", where)
    wanted, loaded = min(set_size, total), sum(one.size for one in sets)
    if run.mode is Mode.ACCURACY:
        wanted = min(log.get("effective_accuracy_sample_count", total), total)
    # After accuracy mode a set is loaded again for performance mode.
    again = min(set_size, total) if log.both_modes else 0
    if not wanted == loaded - again == log.covered:
        found = f"{loaded:,} samples loaded, {log.covered:,} of them different"
        required = f"{wanted:,}" + (f" and {again:,} again" if again else "")
        yield Contradiction(found, required, where)


def remove_padding(log: Log, one: Loaded) -> Loaded:
    """Return a set without the samples that MultiStream repeats."""
    padding = 0
    if log.get("effective_scenario") == "MultiStream":
        padding = log.integer("effective_samples_per_query") - 1
    return replace(one, size=one.size - padding)


def find_wrong_ends(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield the limits that the run passed, at which LoadGen would have ended it."""
    log, issued = run.log, run.queries
    key = "effective_max_query_count"
    most = log.integer(key)
    if most and issued > most:
        yield Contradiction(f"{key} {most:,}", f"0, or {issued:,}", log.where(key))
    key = "effective_max_duration_ms"
    most = log.integer(key)
    # Offline's one query may take any time; a stream's last one is waited for.
    if most and run.scenario is not Scenario.OFFLINE:
        took = compute_final_s(run) - log.integer("result_max_latency_ns") / 1e9
        if took > most / 1000 + 1:
            required = f"0, or at least {took * 1000:,.0f} ms"
            yield Contradiction(f"{key} {most:,}", required, log.where(key))


@check("generated_queries", modes=PERFORMANCE)
def generated_queries(run: JudgedRun) -> Outcome:
    """LoadGen issued what it had generated (loadgen.cc, GenerateQueries)."""
    log = run.log
    key = "generated_samples_per_query"
    asked, each = log.integer("effective_samples_per_query"), log.integer(key)
    size, offline = count_set(log), run.scenario is Scenario.OFFLINE
    equal = find_equal_issue(log)
    if offline and equal and log.has(Trait.FILLED_COUNT):
        # Filled up to a multiple of the loaded set.
        fits = asked <= each < asked + size and each % size == 0
    else:
        fits = asked == each
    wrong = None
    if not fits:
        required = f"{asked:,}, from effective_samples_per_query"
        wrong = Contradiction(f"{key} {each:,}", required, log.where(key))
    made, key = log.integer("generated_query_count"), "result_query_count"
    issued = run.queries
    if offline and equal and generates_one_a_sample(log) and made == size:
        made = 1
    if issued > made or (issued < made and run.scenario not in STREAMS):
        required = f"{made:,}, from generated_query_count"
        wrong = wrong or Contradiction(f"{key} {issued:,}", required, log.where(key))
    wrong = wrong or next(find_wrong_ends(run), None)
    found = f"{issued:,} queries of {each:,} samples"
    return check_contradiction(wrong, found, log.where("generated_query_count"))
