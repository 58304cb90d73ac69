"""Is the reported figure there, and does it fit the rest of the log?

The relations are LoadGen's own arithmetic: loadgen/results.cc of mlcommons/inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pytest_mlperf.core.checks.consistency import REMEDY
from pytest_mlperf.core.checks.consistency import WRAPS
from pytest_mlperf.core.checks.consistency import Contradiction
from pytest_mlperf.core.checks.consistency import compare_range
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_final_s
from pytest_mlperf.core.checks.latency import count_left_out
from pytest_mlperf.core.checks.latency import list_estimate_keys
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.tokens import TWO_TOKENS
from pytest_mlperf.core.checks.tokens import find_wrong_lengths
from pytest_mlperf.core.checks.tokens import find_wrong_token_rates
from pytest_mlperf.core.checks.tokens import has_short_answers
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import QUERY_LATENCY
from pytest_mlperf.core.logs.keys import SHARES
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Scenario

GAPS = 40
"""Mean gaps that one exponential gap between two Server queries never reaches."""


@check("metric_present", modes=PERFORMANCE)
def metric_present(run: JudgedRun) -> Outcome:
    """The reported figure is there, finite, above zero, and fits the same log.

    Counts, times and percentiles have to tell one story; no official checker looks.
    """
    log, key = run.log, run.rule.result_key
    value, where = log.number(key), log.where(key)
    if has_short_answers(log):
        found = f"{value:g} {run.rule.unit} from answers of one token"
        return Outcome(False, found, "answers of two tokens", where, TWO_TOKENS)
    if value <= 0:
        remedy = "repeat the run with more queries: there is no estimate yet"
        return Outcome(False, f"{value:g}", "above 0", where, remedy)
    wrong = next(find_distortions(run), None) or next(find_contradictions(run), None)
    if wrong:
        return Outcome(False, wrong.found, wrong.required, wrong.where, REMEDY)
    return Outcome(True, f"{value:,.10g}", "above 0", where)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Figures of the sorted latencies of one kind, and the keys they came from."""

    count: int
    keys: tuple[str, ...]
    values: tuple[int, ...]
    mean_key: str
    mean: int

    def rank(self, share: str) -> int:
        """Return the rank, from 0, of a percentile in the sorted list (results.cc)."""
        return min(int(self.count * round(float(share) / 100, 4)), self.count - 1)


# Kind -> key of minimum, maximum and mean; key of a percentile.
FORMS = {
    "sample": ("result_{}_latency_ns", LATENCY),
    "query": ("result_{}_query_latency_ns", QUERY_LATENCY),
    "first": ("result_first_token_{}_latency_ns", FIRST_TOKEN_LATENCY),
    "token": ("result_time_to_output_token_{}", TOKEN_LATENCY),
}


def read_distribution(run: JudgedRun, kind: str) -> Distribution:
    """Read the figures of one kind; ``LogError`` where one is missing."""
    log, (ends, percentile) = run.log, FORMS[kind]
    names = [ends.format("min")]
    names += [percentile.format(share) for share in SHARES]
    names.append(ends.format("max"))
    values = tuple(log.integer(name) for name in names)
    count = run.queries if kind == "query" else run.samples
    mean = ends.format("mean")
    return Distribution(count, tuple(names), values, mean, log.integer(mean))


def read_distributions(run: JudgedRun) -> dict[str, Distribution]:
    """Return the kinds that a run of this scenario has."""
    kinds = ["sample"]
    if run.scenario is Scenario.MULTI_STREAM:
        kinds.append("query")
    tokens = run.log.get("requested_use_token_latencies") is True
    if tokens and run.scenario is not Scenario.OFFLINE:
        kinds += ["first", "token"]
    return {kind: read_distribution(run, kind) for kind in kinds}


def find_distortions(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield figures that no list of latencies can have."""
    found = read_distributions(run)
    log, whole = run.log, found["sample"]
    if whole.count < 1:
        where = log.where("generated_samples_per_query")
        yield Contradiction(f"{whole.count} samples", "at least 1", where)
        return
    for own in found.values():
        for i, (low, high) in enumerate(pairwise(own.values)):
            if not 0 <= low <= high:
                key, other = own.keys[i : i + 2]
                required = f"at most {other} {high}"
                yield Contradiction(f"{key} {low}", required, log.where(key))
        yield from find_wrong_mean(log, own)
        # An answer takes no less than its first token, or than one of its tokens.
        for key, part, all_ in zip(own.keys, own.values, whole.values, strict=True):
            if own is not whole and own is not found.get("query") and part > all_:
                required = f"at most {all_}, the whole answer's"
                yield Contradiction(f"{key} {part}", required, log.where(key))


def find_wrong_mean(log: Log, own: Distribution) -> Iterator[Contradiction]:
    """Yield a mean that the percentiles rule out."""
    ranks = (0, *(own.rank(share) for share in SHARES), own.count - 1)
    steps = list(zip(pairwise(ranks), pairwise(own.values), strict=True))
    least = own.values[-1] + sum((b - a) * low for (a, b), (low, _) in steps)
    most = own.values[0] + sum((b - a) * high for (a, b), (_, high) in steps)
    if most >= WRAPS or own.count < 1:
        return
    if not least // own.count - 1 <= own.mean <= most // own.count + 1:
        required = f"{least // own.count} to {most // own.count}, by the percentiles"
        key = own.mean_key
        yield Contradiction(f"{key} {own.mean}", required, log.where(key))


def find_contradictions(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield figures that counts and times contradict."""
    if run.scenario in STREAMS:
        yield from find_stream_contradictions(run)
    elif run.scenario is Scenario.OFFLINE:
        yield from find_offline_contradictions(run)
    else:
        yield from find_server_contradictions(run)
    yield from find_wrong_lengths(run)


def find_stream_contradictions(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield what is wrong with the figures of SingleStream and MultiStream."""
    log, queries = run.log, run.queries
    kinds = read_distributions(run)
    own = kinds.get("query", kinds.get("first", kinds["sample"]))
    if run.scenario is Scenario.SINGLE_STREAM:
        mean = max(kinds["sample"].mean, 1)
        key = "result_qps_without_loadgen_overhead"
        yield from compare_range(
            log, key, 1e9 / mean, 1e9 / mean, "by the mean latency"
        )
        # All but the last query were answered before the last was issued. The rate is
        # highest for the fewest queries, which all that is known is without a count.
        least = queries
        if not log.has(Trait.QUERY_COUNT):
            least = min(queries, log.integer("effective_min_query_count"))
        busy = least * mean - kinds["sample"].values[-1]
        if busy > 0:
            high, key = (least - 1) * 1e9 / busy, "result_qps_with_loadgen_overhead"
            yield from compare_range(log, key, 0.0, high, "by the mean latency")
        if "first" in kinds:
            final = compute_final_s(run)
            slowest = kinds["sample"].values[-1] / 1e9
            yield from find_wrong_token_rates(run, final + slowest, final)
    elif kinds["query"].values[-1] != kinds["sample"].values[-1]:
        key = "result_max_query_latency_ns"
        required = f"{kinds['sample'].values[-1]}, the slowest sample's"
        yield Contradiction(
            f"{key} {kinds['query'].values[-1]}", required, log.where(key)
        )
    if not log.has(Trait.EARLY_STOPPING):
        return
    for share, key in list_estimate_keys(run, run.rule.percentile or 0.9).items():
        left_out = count_left_out(log, queries, share)
        if left_out is None:
            if log.integer(key):
                found = f"{key} {log.get(key)}"
                yield Contradiction(found, "0, of so few queries", log.where(key))
            continue
        low, high = find_rank_range(own, queries - left_out - 1)
        yield from compare_range(log, key, low, high, "by the percentiles")


def find_rank_range(own: Distribution, rank: int) -> tuple[int, int]:
    """Return the figures between which the latency at a rank, from 0, has to be."""
    ranks = (0, *(own.rank(share) for share in SHARES), own.count - 1)
    pairs = list(zip(ranks, own.values, strict=True))
    low = max((value for place, value in pairs if place <= rank), default=0)
    above = (value for place, value in pairs if place >= rank)
    return low, min(above, default=own.values[-1])


def find_offline_contradictions(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield what is wrong with Offline's figures."""
    log = run.log
    rate = run.samples * 1e9 / max(log.integer("result_max_latency_ns"), 1)
    why = "samples by the longest latency"
    yield from compare_range(log, "result_samples_per_second", rate, rate, why)
    key = "result_tokens_per_second"
    if key in log.values and log.number(key) < rate * (1 - SIX_DIGITS):
        required = f"{rate:,.8g} at least, a token a sample"
        yield Contradiction(f"{key} {log.get(key)}", required, log.where(key))


def find_server_contradictions(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield what is wrong with the figures of Server and Interactive."""
    log, gaps = run.log, run.queries - 1
    made = log.integer("generated_query_duration") / 1e9
    scheduled = log.number("result_scheduled_samples_per_sec")
    done = log.number("result_completed_samples_per_sec")
    if not (gaps > 0 and made > 0 and scheduled > 0 and done > 0):
        where = log.where("result_completed_samples_per_sec")
        yield Contradiction("a rate of 0", "more than one query in some time", where)
        return
    # The generated time holds one gap more than the queries' times.
    least, key = gaps / made, "result_scheduled_samples_per_sec"
    room = 1 + GAPS / max(gaps - GAPS, 1)
    yield from compare_range(log, key, least, least * room, "queries by time")
    last = gaps / scheduled
    slowest = log.integer("result_max_latency_ns") / 1e9
    key = "result_completed_samples_per_sec"
    low = gaps / (last + slowest)
    yield from compare_range(log, key, low, gaps / last, "queries by time")
    if log.get("requested_use_token_latencies") is True:
        yield from find_wrong_token_rates(run, gaps / done, gaps / done)
