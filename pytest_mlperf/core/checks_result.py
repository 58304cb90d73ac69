"""Did the run give what the round asks? Each check cites its source.

LoadGen's own arithmetic is in loadgen/results.cc; the round's limits are in the rule.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pytest_mlperf.core import diagnose
from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.evidence import BOUNDED
from pytest_mlperf.core.evidence import STREAMS
from pytest_mlperf.core.evidence import Run
from pytest_mlperf.core.evidence import check
from pytest_mlperf.core.evidence import elapsed_s
from pytest_mlperf.core.evidence import ms
from pytest_mlperf.core.log import Log
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check

CLOCK_SLACK = 0.01
"""LoadGen takes a difference of its clock and the system's up to here as an error."""
DIGITS = 1e-4
"""Relative; LoadGen logs real numbers with six digits."""


def loadgen_validity(run: Run) -> Check:
    """LoadGen itself calls the run VALID, and so do its parts (results.cc)."""
    log = run.log
    flags = ["result_min_duration_met", "result_min_queries_met", "early_stopping_met"]
    if run.scenario in BOUNDED:
        flags.append("result_perf_constraints_met")
    where = log.where("result_validity")
    said = log.text("result_validity")
    unmet = [flag for flag in flags if not log.flag(flag)]
    if said == "VALID" and not unmet:
        return check("loadgen_validity", True, said, "VALID", where)
    found = f"{said}, with not {', not '.join(unmet)}" if unmet else said
    remedy = "see the checks that failed with it"
    if reason := str(log.get("result_invalid_reason", "")).strip():
        remedy += f"; LoadGen says: {reason[:200]}"
    return check("loadgen_validity", False, found, "VALID", where, remedy)


def min_duration(run: Run, required_ms: int) -> Check:
    """The run was set to last, and did last, the minimum (rules, 600 s)."""
    log = run.log
    key = "effective_min_duration_ms"
    setting, lasted = log.integer(key), lasted_ms(run)
    if setting < required_ms:
        found, where = f"a setting of {setting:,} ms", log.where(key)
    else:
        found, where = f"{lasted:,.0f} ms", log.where(duration_key(run))
    ok = setting >= required_ms
    ok = ok and (run.scenario in STREAMS or lasted >= required_ms)
    # Wall time, to the millisecond and on another clock, has to agree.
    ok = ok and elapsed_s(log) * 1000 + 2 >= required_ms * (1 - CLOCK_SLACK)
    required = f"at least {required_ms:,} ms"
    remedy = "" if ok else diagnose.too_short(run, required_ms)
    return check("min_duration", ok, found, required, where, remedy)


def duration_key(run: Run) -> str:
    """Return where the log says how long the run was."""
    if run.scenario is Scenario.OFFLINE:
        return "result_max_latency_ns"
    return "generated_query_duration" if run.scenario in BOUNDED else "power_end"


def lasted_ms(run: Run) -> float:
    """Return what LoadGen holds against the minimum duration, in milliseconds.

    Offline: the last answer. Server: the last scheduled query. Streams: the last
    issued one, which the log has only as wall time.
    """
    if run.scenario in STREAMS:
        return elapsed_s(run.log) * 1000
    return run.log.integer(duration_key(run)) / 1e6


def min_query_count(run: Run, required: int) -> Check:
    """Enough queries were issued (LoadGen, min_query_count).

    Since v2.0 early stopping decides how many the percentile needs: the checker
    enforces no count beside it, and user.conf may lower mlperf.conf's.
    """
    if run.rule.percentile:
        over = 1 if run.scenario in STREAMS else 0
        need = early_stopping.queries_needed(over, run.rule.percentile)
        required = min(required, need)
    log = run.log
    found = run.queries
    remedy = diagnose.too_few_queries(run, required)
    return check(
        "min_query_count",
        found >= required,
        f"{found:,} queries",
        f"at least {required:,}",
        log.where("result_query_count"),
        remedy,
    )


def min_sample_count(run: Run, required: int) -> Check:
    """The Offline query held enough samples (submission checker, OFFLINE_MIN_SPQ)."""
    found = run.samples
    return check(
        "min_sample_count",
        found >= required,
        f"{found:,} samples",
        f"at least {required:,}",
        run.log.where("generated_samples_per_query"),
        diagnose.too_few_queries(run, required),
    )


def early_stopping_check(run: Run) -> Check:
    """The queries prove the percentile, recomputed (loadgen/early_stopping.cc)."""
    log, percentile = run.log, run.rule.percentile or 0.99
    queries = run.queries
    if run.scenario in STREAMS:
        over = 1
    elif run.rule.use_token_latencies:
        # The log has no count of late tokens; LoadGen's flag is all there is.
        over = 0
    else:
        over = log.integer("result_overlatency_query_count")
    if not 0 <= over <= queries:
        where = log.where("result_overlatency_query_count")
        required, remedy = f"0 to {queries:,}", "repeat the run; the log is wrong"
        return check("early_stopping", False, f"{over} late", required, where, remedy)
    needed = early_stopping.queries_needed(over, percentile)
    proved, claimed = queries >= needed, log.flag("early_stopping_met")
    where = log.where("early_stopping_met")
    required = f"at least {needed:,} queries for {over:,} late"
    if run.scenario in STREAMS:
        required = f"at least {needed:,} queries"
    found = f"{queries:,} queries"
    if not proved:
        remedy = diagnose.too_few_for_percentile(run, over, needed)
        return check("early_stopping", False, found, required, where, remedy)
    if not claimed:
        remedy = "LoadGen's own count differs: see early_stopping_result in the log"
        found += ", not met by LoadGen"
        return check("early_stopping", False, found, required, where, remedy)
    if run.scenario in STREAMS and (text := log.get("early_stopping_result")):
        said = re.search(r"Would discard (\d+) highest", str(text))
        mine = early_stopping.discarded(queries, percentile)
        if said and int(said[1]) != mine:
            found = f"an estimate without the {said[1]} highest of {queries:,}"
            required = f"one without the {mine}"
            remedy = "LoadGen or its log was altered; install the released one"
            where = log.where("early_stopping_result")
            return check("early_stopping", False, found, required, where, remedy)
    return check("early_stopping", True, found, required, where)


def latency_bound(run: Run) -> Check:
    """The measured percentile is within the round's bound, whatever the log's is.

    Rules, Server latency constraint. Equality passes, as in LoadGen.
    """
    log, rule = run.log, run.rule
    percent = f"{(rule.percentile or 0.99) * 100:.2f}_percentile"
    bounds = {
        f"result_{percent}_latency_ns": rule.target_latency_ns,
        f"result_first_token_{percent}_latency_ns": rule.ttft_ns,
        f"result_time_per_output_token_{percent}_ns": rule.tpot_ns,
    }
    shown, where = [], log.where("result_validity")
    for key, bound in bounds.items():
        if bound is None:
            continue
        measured, where = log.integer(key), log.where(key)
        shown.append(ms(measured))
        if not 0 < measured <= bound:
            required = f"at most {ms(bound)} at {rule.percentile:.1%}"
            remedy = diagnose.over_bound(run)
            return check("latency_bound", False, ms(measured), required, where, remedy)
    required = "within the round's bound"
    found = ", ".join(shown) or "no bound in the round"
    return check("latency_bound", bool(shown), found, required, where)


def metric_present(run: Run) -> Check:
    """The reported figure is there, finite, above zero, and fits the same log.

    Counts, times and percentiles have to tell one story; no official checker looks.
    """
    log, key = run.log, run.rule.result_key
    value, where = log.number(key), log.where(key)
    remedy = "repeat the run; the log contradicts itself"
    if value <= 0:
        remedy = "repeat the run with more queries: there is no estimate yet"
        return check("metric_present", False, f"{value:g}", "above 0", where, remedy)
    wrong = disorder(log) or implausible(run, value)
    if wrong:
        found, required = wrong
        return check("metric_present", False, found, required, where, remedy)
    return check("metric_present", True, f"{value:,.10g}", "above 0", where)


def disorder(log: Log) -> tuple[str, str] | None:
    """Return found and required where percentiles do not rise; None when they do."""
    steps = ["min", *(f"{p:.2f}_percentile" for p in (50, 90, 95, 97, 99, 99.9)), "max"]
    keys = [f"result_{step}_latency_ns" for step in steps]
    for low, high in pairwise(keys):
        if log.integer(low) > log.integer(high) or log.integer(low) < 0:
            return f"{low} {log.get(low)}", f"at most {high} {log.get(high)}"
    return None


def implausible(run: Run, value: float) -> tuple[str, str] | None:
    """Return found and required where the figure contradicts the log."""
    log, key = run.log, run.rule.result_key
    longest = log.integer("result_max_latency_ns")
    if run.scenario in STREAMS and key.startswith("early_stopping"):
        if run.rule.use_token_latencies:
            return None
        least = log.integer(run.latency_key(run.rule.percentile or 0.9))
        if run.scenario is Scenario.MULTI_STREAM:
            longest = log.integer("result_max_query_latency_ns")
        if not least <= value <= longest:
            return ms(value), f"between {ms(least)} and {ms(longest)}"
    if key == "result_samples_per_second":
        own = run.samples * 1e9 / longest if longest else 0.0
        if abs(value - own) > DIGITS * own:
            return f"{value:g} samples/s", f"{own:g}: samples by longest latency"
    if run.scenario in BOUNDED:
        completed = log.number("result_completed_samples_per_sec")
        scheduled = log.number("result_scheduled_samples_per_sec")
        own = (run.queries - 1) * 1e9 / max(log.integer("generated_query_duration"), 1)
        if abs(scheduled - own) > (5 / run.queries + 10 * DIGITS) * own:
            return f"{scheduled:g} scheduled/s", f"{own:g}: queries by time"
        if completed > scheduled * (1 + DIGITS):
            return f"{completed:g} completed/s", f"at most {scheduled:g} scheduled"
    return None
