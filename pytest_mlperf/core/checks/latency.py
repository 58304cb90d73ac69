"""Were the answers in time, and were there enough of them to say so?

Each check cites its source; LoadGen's own arithmetic is in loadgen/results.cc and
early_stopping.cc, the round's limits are in the rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.checks import remedies
from pytest_mlperf.core.checks.consistency import REMEDY
from pytest_mlperf.core.checks.consistency import Contradiction
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import format_ms
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import NOT_OFFLINE
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.tokens import TWO_TOKENS
from pytest_mlperf.core.checks.tokens import has_short_answers
from pytest_mlperf.core.logs import early_stopping_text
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import LOGGED
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.keys import list_bounds
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Scenario

MOST_LEFT_OUT = 1022
"""Of the first LoadGen with early stopping, which left out none where it had to leave
out more."""
MULTI_STREAM_SHARE = 0.99
"""LoadGen adds this estimate to SingleStream's own, for the inference from it."""


@check(
    "early_stopping",
    modes=PERFORMANCE,
    scenarios=NOT_OFFLINE,
    when=lambda rule: rule.early_stopping,
)
def early_stopping_met(run: JudgedRun) -> Outcome:
    """The queries prove the percentile, recomputed (loadgen/early_stopping.cc)."""
    log, percentile = run.log, run.rule.percentile or 0.99
    if not log.has(Trait.EARLY_STOPPING):
        return check_old_count(run)
    queries, over = run.queries, count_late_queries(run, percentile)
    if not 0 <= over <= queries:
        where = log.where("result_overlatency_query_count")
        required = f"0 to {queries:,}"
        return Outcome(False, f"{over} late", required, where, REMEDY)
    needed = early_stopping.count_queries_needed(over, percentile)
    where = log.where("early_stopping_met")
    required = f"at least {needed:,} queries for {over:,} late"
    if run.scenario in STREAMS:
        required = f"at least {needed:,} queries"
    found = f"{queries:,} queries"
    if queries < needed:
        remedy = remedies.advise_for_percentile(run, over, needed)
        return Outcome(False, found, required, where, remedy)
    if not log.flag("early_stopping_met"):
        remedy = "LoadGen's own count differs: see early_stopping_result in the log"
        found += ", not met by LoadGen"
        return Outcome(False, found, required, where, remedy)
    if wrong := next(find_misreports(run, percentile), None):
        return Outcome(False, wrong.found, wrong.required, wrong.where, REMEDY)
    return Outcome(True, found, required, where)


def check_old_count(run: JudgedRun) -> Outcome:
    """Return whether a LoadGen without early stopping issued what its day asked for.

    That is min_query_count, which proves any percentile by far.
    """
    found, least = run.queries, run.rule.min_query_count
    remedy = "repeat the run with a LoadGen that has early stopping"
    where = run.log.where("generated_query_count")
    text = f"{found:,} queries, of {run.log.dialect}"
    return Outcome(found >= least, text, f"at least {least:,}", where, remedy)


def count_late_queries(run: JudgedRun, percentile: float) -> int:
    """Return how many queries were late; for token bounds at least so many."""
    if run.scenario in STREAMS:
        return 1
    if run.rule.use_token_latencies:
        bounds = {"ttft": run.rule.ttft_ns, "tpot": run.rule.tpot_ns}
        return early_stopping_text.count_late_tokens(
            run.log, run.queries, percentile, bounds
        )
    return run.log.integer("result_overlatency_query_count")


def find_misreports(run: JudgedRun, percentile: float) -> Iterator[Contradiction]:
    """Yield LoadGen's reports that contradict its numbers."""
    log = run.log
    tokens = log.get("requested_use_token_latencies") is True
    names = ("ttft_result", "tpot_result") if tokens else ("result",)
    for name in names:
        key = f"early_stopping_{name}"
        report = early_stopping_text.read_report(log.text(key))
        if report is None or not report.met:
            found = log.text(key)[:80] or "nothing"
            yield Contradiction(found, "a report of success", log.where(key))
        elif run.scenario in STREAMS:
            yield from find_misestimates(run, percentile, key, report)
    if run.scenario in BOUNDED:
        yield from find_miscounts(run)


def find_misestimates(
    run: JudgedRun,
    percentile: float,
    key: str,
    report: early_stopping_text.EarlyStoppingReport,
) -> Iterator[Contradiction]:
    """Yield what a stream's report says of its estimate and its numbers contradict."""
    log, queries = run.log, run.queries
    where = log.where(key)
    least = early_stopping.count_queries_needed(1, percentile)
    mine = count_left_out(log, queries, percentile)
    for found, own, what in (
        (report.queries, queries, "queries processed"),
        (report.needed, least, "queries needed"),
        (report.discarded, mine, "highest latencies left out"),
    ):
        if found != own:
            yield Contradiction(f"{found} {what}", f"{own}", where)
    if "tpot" in key:
        return
    estimates = {} if report.estimates is None else dict(report.estimates)
    for share, name in list_estimate_keys(run, percentile).items():
        shown = next((v for s, v in estimates.items() if abs(s - share) < 1e-9), 0)
        if shown != log.integer(name):
            required = f"{shown}, as {where} has it"
            yield Contradiction(f"{name} {log.get(name)}", required, log.where(name))


def count_left_out(log: Log, queries: int, percentile: float) -> int | None:
    """Return how many of the highest latencies LoadGen's estimate leaves out.

    None where there is no estimate, of so few queries.
    """
    most = early_stopping.count_discarded(queries, percentile)
    bounded = not log.has(Trait.EARLY_STOPPING_UNBOUNDED)
    return 0 if bounded and most and most > MOST_LEFT_OUT else most


def list_estimate_keys(run: JudgedRun, percentile: float) -> Mapping[float, str]:
    """Return the percentiles that a stream estimates, and their keys."""
    if run.scenario is Scenario.MULTI_STREAM:
        return {percentile: "early_stopping_latency_ms"}
    return {
        percentile: "early_stopping_latency_ss",
        MULTI_STREAM_SHARE: "early_stopping_latency_ms",
    }


def find_miscounts(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield Server's count of late queries where the percentiles contradict it."""
    log, key = run.log, "result_overlatency_query_count"
    over, bound = log.integer(key), log.integer("effective_target_latency_ns")
    least, most = early_stopping.count_late_range(
        run.queries, read_latencies(log), bound
    )
    if not least <= over <= most:
        required = f"{least:,} to {most:,}, by the percentiles"
        yield Contradiction(f"{over:,} late", required, log.where(key))


def read_latencies(log: Log) -> dict[float, int]:
    """Return share of the queries -> latency there, 0 the fastest and 1 the slowest."""
    shares = {share: LATENCY.format(format_share(share)) for share in LOGGED}
    shares |= {0.0: "result_min_latency_ns", 1.0: "result_max_latency_ns"}
    return {share: log.integer(key) for share, key in shares.items()}


@check("latency_bound", modes=PERFORMANCE, scenarios=BOUNDED)
def latency_bound(run: JudgedRun) -> Outcome:
    """The measured percentile is within the round's bound, whatever the log's is.

    Rules, Server latency constraint. Equality passes, as in LoadGen.
    """
    log, rule = run.log, run.rule
    shown, where = [], log.where("result_validity")
    for key, bound in list_bounds(rule).items():
        measured, where = log.integer(key), log.where(key)
        shown.append(format_ms(measured))
        if not 0 < measured <= bound:
            required = f"at most {format_ms(bound)} at {rule.percentile:.1%}"
            if measured < 0 and has_short_answers(log):
                found = "no time per output token: answers of one token"
                return Outcome(False, found, required, where, TWO_TOKENS)
            remedy = remedies.advise_lower_load(run)
            return Outcome(False, format_ms(measured), required, where, remedy)
    required = "within the round's bound"
    found = ", ".join(shown) or "no bound in the round"
    return Outcome(bool(shown), found, required, where)
