"""Did a run issue every sample equally often? Logged, proved by figures, or neither.

With equal issue (LoadGen's sample_concatenate_permutation) LoadGen issues whole passes
over the loaded set: it fills Offline's query up, and raises the number of queries of
the other scenarios. Sources: GenerateQueries of loadgen.cc, and test_settings_
internal.cc, at the commits that ``Trait`` names.
"""

from __future__ import annotations

from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log

KEY = "effective_sample_concatenate_permutation"
STREAM_SLACK = 2.0
"""LoadGen's kSlack for SingleStream: so many times what fills the minimum duration."""


def find_equal_issue(log: Log) -> bool | None:
    """Return whether a performance run had equal issue; None where nothing tells.

    Since 3fb6c3e1 the log says so. Before, the counts prove it where whole passes are
    another number than what was asked for.
    """
    if log.has(Trait.PERMUTATION_LOGGED):
        return log.flag(KEY)
    scenario = log.text("effective_scenario")
    if scenario == "Offline":
        return _find_in_offline(log)
    if scenario == "SingleStream":
        if not log.has(Trait.SINGLE_STREAM_PERMUTATIONS):
            return False
        return _find_in_single_stream(log)
    if not log.has(Trait.PERMUTATIONS):
        return False
    if scenario == "Server":
        return log.integer("generated_query_count") % count_set(log) == 0
    return None


def describe_equal_issue(log: Log, equal: bool | None) -> str:
    """Return the answer in words, such as ``equal issue, by the counts``."""
    if equal is None:
        return f"equal issue not logged by {log.dialect}"
    proved = "" if log.has(Trait.PERMUTATION_LOGGED) else ", by the counts"
    return ("equal issue" if equal else "no equal issue") + proved


def count_set(log: Log) -> int:
    """Return the samples of the loaded set that a performance run draws from."""
    return max(log.loaded[0].size if log.loaded else 0, 1)


def count_query_samples(log: Log) -> int:
    """Return the samples of a query as issued, with what equal issue added.

    Of Offline's query before ef1bd3b9 the log has the number without it.
    """
    each = log.integer("generated_samples_per_query")
    offline = log.get("effective_scenario") == "Offline"
    if offline and not log.has(Trait.FILLED_COUNT) and find_equal_issue(log):
        return fill_up(each, count_set(log))
    return each


def fill_up(count: int, size: int) -> int:
    """Return the smallest multiple of a size that is no less than a count."""
    return -(-count // size) * size


def compute_min_queries(log: Log) -> int:
    """Return SingleStream's min_query_count with equal issue, as LoadGen raises it."""
    asked = log.integer("requested_min_query_count")
    seconds = log.integer("effective_min_duration_ms") / 1000
    rate = 1e9 / log.number("requested_single_stream_expected_latency_ns")
    size = max(log.integer("qsl_reported_performance_count"), 1)
    most = max(asked, int(STREAM_SLACK * seconds * rate))
    return most + size - most % size


def generates_one_a_sample(log: Log) -> bool:
    """Return whether this LoadGen made a query a sample where it issues Offline's one.

    Between two commits, with equal issue, of a query that needed no filling.
    """
    early = log.has(Trait.PERMUTATIONS) and not log.has(Trait.ONE_OFFLINE_QUERY)
    each = log.integer("effective_samples_per_query")
    return early and each % count_set(log) == 0


def _find_in_offline(log: Log) -> bool | None:
    if not log.has(Trait.OFFLINE_PERMUTATIONS):
        return False
    each, size = log.integer("effective_samples_per_query"), count_set(log)
    if generates_one_a_sample(log) and size > 1:
        return log.integer("generated_query_count") == size
    issued = log.number("result_samples_per_second")
    issued *= log.integer("result_max_latency_ns") / 1e9
    fits = [
        abs(issued - count) <= SIX_DIGITS * count
        for count in (each, fill_up(each, size))
    ]
    # Both, of so few added that six digits do not tell; or neither, of another rate.
    return None if fits[0] is fits[1] else fits[1]


def _find_in_single_stream(log: Log) -> bool:
    found = log.integer("effective_min_query_count")
    return found != log.integer("requested_min_query_count")
