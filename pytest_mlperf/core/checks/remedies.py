"""From what a log shows to the setting to change and the value to try next.

The settings are user.conf's: ``target_qps`` (Server's load, Offline's expected rate),
``target_latency`` (a stream's expected latency, in milliseconds), ``min_query_count``,
``min_duration``. The rules of thumb are those of NVIDIA's tuning guide, the sums those
of LoadGen (GenerateQueries, results.cc).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import format_ms
from pytest_mlperf.core.facts import BURST
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.keys import list_bounds
from pytest_mlperf.core.settings import OFFLINE_SLACK
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import OTHERS

SPARE = 1.02
"""More than the minimum, because no two runs are equally fast."""


def advise_longer_run(run: JudgedRun, required_ms: int) -> str:
    """Say how to make the run last long enough."""
    log = run.log
    setting = log.integer("effective_min_duration_ms")
    if setting < required_ms:
        return f"raise min_duration from {setting:,} to {required_ms:,} ms"
    if run.scenario is Scenario.OFFLINE:
        asked = log.number("effective_target_qps")
        actual = log.number("result_samples_per_second")
        advised_qps = choose_offline_qps(actual, required_ms)
        return (
            f"raise target_qps from {asked:,.6g} to"
            f" {format_rate(advised_qps, math.ceil)}: the engine answered"
            f" {actual:,.6g} samples/s, so the query was over too soon"
        )
    if run.scenario in STREAMS and run.rule.percentile:
        asked = 1e9 / max(log.number("effective_target_qps"), 1e-9)
        advised, why = choose_stream_latency_ns(run)
        if advised < asked:
            return (
                f"lower the expected latency from {format_typed_ms(asked)} to"
                f" {format_typed_ms(advised)}, {why}: LoadGen ran out of the queries"
                " it made"
            )
    return "look for what ended the run early: an error, max_duration, max_query_count"


def choose_offline_qps(actual: float, min_duration_ms: int) -> float:
    """Return the expected rate whose query lasts the minimum duration.

    LoadGen sends ``int(1.1 * seconds * target_qps)`` samples: the measured rate itself
    leaves a tenth to spare, unless that is less than a sample.
    """
    seconds = min_duration_ms / 1000
    whole = math.ceil(SPARE * actual * seconds) + 1e-6
    return max(actual, whole / (OFFLINE_SLACK * seconds)) if seconds else actual


def choose_stream_latency_ns(run: JudgedRun) -> tuple[float, str]:
    """Return the expected latency to try, and what it is."""
    log = run.log
    percentile = run.rule.percentile or 0.9
    measured = log.integer(run.latency_key(percentile))
    kind = "query_latency" if run.scenario is Scenario.MULTI_STREAM else "latency"
    mean = log.integer(f"result_mean_{kind}_ns")
    if choose_latency_ns(measured, mean) == measured:
        return measured, f"the measured {percentile:.1%} percentile"
    return mean, f"the mean, far below the {percentile:.1%} percentile"


def choose_latency_ns(measured: int, mean: int) -> int:
    """Return the measured percentile, or the mean where the percentile is too long.

    LoadGen makes twice the queries that fit if each takes the expected latency: the
    percentile is enough unless most queries are faster than half of it.
    """
    return mean if SPARE * measured > 2 * mean > 0 else measured


def advise_lower_load(run: JudgedRun) -> str:
    """Say what to do where the latency is over the bound, the likeliest cause first.

    A container's quota, other programs, a probe that the run contradicts, the load,
    the hardware: whoever judges a log hears the same, as far as he knows of the first
    three.
    """
    if held := run.context.run.throttled:
        return held  # whatever else there is, no figure tells of the machine
    causes = (advise_quiet(run), compare_with_probe(run), advise_load(run))
    return "; ".join(filter(None, causes))


def advise_quiet(run: JudgedRun) -> str:
    """Say that others used the CPUs during the run; empty where they did not."""
    facts = run.context.run
    if not facts.is_disturbed:
        return advise_on_burst(facts)
    used = facts.texts.get(OTHERS, "").partition(" (")[0]
    return (
        f"other programs used {used or 'the CPUs'} during the run: end them and repeat"
        " it before anything else"
    )


def advise_on_burst(facts: RunFacts) -> str:
    """Say that others used the CPUs for a moment; empty where they did not."""
    if facts.others_peak <= BURST or facts.is_attached:
        return ""
    return (
        f"other programs used {facts.others_peak:.0%} of the CPUs for a second, "
        f"{facts.others_peak_at_s:.0f} s after the start, and queries waited: repeat "
        "the run with nothing else running, or make it longer, which allows more late "
        "ones"
    )


def compare_with_probe(run: JudgedRun) -> str:
    """Say where probe and run contradict each other; empty where they do not."""
    probed, measured = run.context.run.probed_share, compute_bound_share(run)
    if probed is None or not measured:
        return ""
    shown = f"{probed:.0%} of the bound in the probe and {measured:.0%} in the run"
    if run.context.hopeless and measured < probed:
        return f"{shown}: the machine was busier in the probe; repeat the run"
    if probed <= 1 < measured:
        return (
            f"{shown}, at no more load: the machine was slower in the run (other"
            " programs, the hypervisor, heat); repeat it on a quiet machine"
        )
    return ""


def compute_bound_share(run: JudgedRun) -> float:
    """Return the worst measured latency as a share of its bound; 0 without one."""
    bounds = list_bounds(run.rule)
    found = [(run.log.get(key), bound) for key, bound in bounds.items()]
    return max((ns / bound for ns, bound in found if type(ns) is int), default=0.0)


def advise_load(run: JudgedRun) -> str:
    """Say which load to try next, or that the hardware is too slow for any."""
    log = run.log
    asked = log.number("effective_target_qps")
    for key, bound, what in list_best_cases(run):
        found = log.get(key)
        if type(found) is int and found > bound:
            return (
                f"no load meets this bound here: {what} took {format_ms(found)};"
                " try a smaller batch, a lower precision or a faster device"
            )
    completed = log.number("result_completed_samples_per_sec")
    scheduled = log.number("result_scheduled_samples_per_sec")
    share = compute_late_share(run)
    allowed = 1 - (run.rule.percentile or 0.99)
    why = "" if share is None else f": {share:.2%} of the queries were late"
    if has_backlog(completed, scheduled):
        why = f": the engine completed {completed:,.6g} queries/s of them"
    lower = format_rate(choose_server_qps(asked, completed, scheduled, share, allowed))
    return (
        f"lower target_qps from {asked:,.6g} to about {lower}{why};"
        f" then a smaller batch, then fewer streams{advise_on_tokens(run)}, then a"
        " lower precision or a faster device"
    )


def has_backlog(completed: float, scheduled: float) -> bool:
    """True when the engine could not keep up, so that queries piled up."""
    return completed < 0.98 * scheduled


def choose_server_qps(
    asked: float,
    completed: float,
    scheduled: float,
    share: float | None,
    allowed: float,
) -> float:
    """Return the load to try after one with too many late queries.

    Nine tenths of what the engine completed where it could not keep up; otherwise
    5 % less when few more than ``allowed`` were late, else 15 % less.
    """
    if has_backlog(completed, scheduled):
        return 0.9 * min(completed, asked)
    few = share is not None and share < 3 * allowed
    return (0.95 if few else 0.85) * asked


def list_best_cases(run: JudgedRun) -> list[tuple[str, int, str]]:
    """Return the key of the best case of each bounded latency, the bound, its name."""
    rule = run.rule
    bounds = [
        ("result_min_latency_ns", rule.target_latency_ns, "the fastest answer"),
        ("result_first_token_min_latency_ns", rule.ttft_ns, "the fastest first token"),
        ("result_time_to_output_token_min", rule.tpot_ns, "the fastest next token"),
    ]
    return [(key, bound, what) for key, bound, what in bounds if bound is not None]


def advise_on_tokens(run: JudgedRun) -> str:
    """Return what to change for the token bound that was missed; empty for none."""
    share = format_share(run.rule.percentile or 0.99)
    first = run.log.get(FIRST_TOKEN_LATENCY.format(share))
    later = run.log.get(TOKEN_LATENCY.format(share))
    hint = ""
    if run.rule.ttft_ns and type(first) is int and first > run.rule.ttft_ns:
        hint += "; for the first token prefill sooner: smaller prefill batches,"
        hint += " chunked prefill, more replicas"
    if run.rule.tpot_ns and type(later) is int and later > run.rule.tpot_ns:
        hint += "; for the next tokens decode fewer sequences at once"
    return hint


def compute_late_share(run: JudgedRun) -> float | None:
    """Return the share of queries that LoadGen counted as late; None without one.

    In token runs its count is of whole answers, against a bound of 0.
    """
    over = run.log.get("result_overlatency_query_count")
    if run.rule.use_token_latencies or type(over) is not int or not run.queries:
        return None
    return over / run.queries


def advise_for_percentile(run: JudgedRun, over: int, needed: int) -> str:
    """Say in numbers what early stopping still needs."""
    queries, percentile = run.queries, run.rule.percentile or 0.99
    more = max(needed - queries, 0)
    if run.scenario in STREAMS:
        return (
            f"{queries:,} queries are too few for an estimate of the {percentile:.1%}"
            f" percentile: {needed:,} are needed, {more:,} more;"
            f" {advise_settings(run, needed)}"
        )
    if over > (1 - percentile) * queries:
        return advise_lower_load(run)
    proved = early_stopping.find_proven_percentile(queries, over)
    text = (
        f"{queries:,} queries with {over:,} over the bound prove the {proved:.3%}"
        f" percentile, not yet the {percentile:.1%}: {needed:,} are needed, {more:,}"
        " more, none of them late"
    )
    enough = early_stopping.count_steady_queries(queries, over, percentile)
    if enough is None:
        return f"{text}; too many are late: {advise_lower_load(run)}"
    if burst := advise_quiet(run):
        text = f"{burst}; {text}"
    if enough > needed:
        text += f", or {enough:,} in all if as many are as now"
    return f"{text}; {advise_settings(run, enough)}"


def advise_settings(run: JudgedRun, queries: int) -> str:
    """Return the settings that make a run issue this number of queries."""
    asked = run.log.integer("effective_min_duration_ms")
    lasting = math.ceil(asked * 1.05 * queries / max(run.queries, 1))
    return (
        f"raise min_query_count to {queries:,}, or min_duration to"
        f" {max(lasting, asked):,} ms"
    )


def advise_more_queries(run: JudgedRun, required: int) -> str:
    """Say how to issue enough queries or samples."""
    if run.scenario is Scenario.OFFLINE:
        return f"set min_query_count to {required:,}; Offline reads it as samples"
    return f"set min_query_count to {required:,}, or let the run last longer"


def format_rate(value: float, whole: Callable[[float], float] = round) -> str:
    """Return a rate to type: three digits, no separators."""
    if value <= 0:
        return "a fraction of a query"
    digits = 2 - math.floor(math.log10(value))
    rounded = whole(value * 10.0**digits) / 10.0**digits
    return f"{rounded:.{max(0, digits)}f}"


def format_typed_ms(nanoseconds: float) -> str:
    """Return a latency to type, in milliseconds: three digits, rounded down."""
    return f"{format_rate(nanoseconds / 1e6, math.floor)} ms"
