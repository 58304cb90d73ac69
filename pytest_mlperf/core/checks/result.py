"""Was the run complete: LoadGen's verdict, its time and its counts?

LoadGen's own arithmetic is in loadgen/results.cc; the round's limits are in the rule.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.checks import remedies
from pytest_mlperf.core.checks.consistency import Contradiction
from pytest_mlperf.core.checks.consistency import check_contradiction
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import compute_duration_range
from pytest_mlperf.core.checks.context import compute_final_s
from pytest_mlperf.core.checks.context import read_elapsed_s
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import NOT_OFFLINE
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.rule_check import check_limit
from pytest_mlperf.core.logs import early_stopping_text
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Scenario

CLOCK_SLACK = 0.001
"""LoadGen warns where its clock and the system's differ by more."""
TOLD_SLACK = 0.01
"""From here on it logs an error."""
MARGIN_S = 1.0
"""Between the last answer and the time stamp after it, on a machine that swaps."""


@check("loadgen_validity", modes=PERFORMANCE)
def loadgen_validity(run: JudgedRun) -> Outcome:
    """LoadGen itself calls the run VALID, and so do its parts (results.cc)."""
    log = run.log
    flags = ["result_min_duration_met", "result_min_queries_met"]
    if log.has(Trait.EARLY_STOPPING):
        flags.append("early_stopping_met")
    key = "result_perf_constraints_met"
    if run.scenario in BOUNDED or key in log.values:
        flags.append(key)
    where = log.where("result_validity")
    validity = log.text("result_validity")
    unmet = [flag for flag in flags if not log.flag(flag)]
    reason = log.get("result_invalid_reason")
    if validity == "VALID" and not unmet and reason is None:
        return Outcome(True, validity, "VALID", where)
    found = f"{validity}, with not {', not '.join(unmet)}" if unmet else validity
    if validity == "VALID" and reason is not None:
        found += ", with a reason why it is not"
    remedy = "see the checks that failed with it"
    if text := str(reason or "").strip():
        remedy += f"; LoadGen says: {text[:200]}"
    return Outcome(False, found, "VALID", where, remedy)


@check("flags_agree", modes=PERFORMANCE)
def flags_agree(run: JudgedRun) -> Outcome:
    """What LoadGen calls met is met, by its own settings and numbers (results.cc)."""
    log = run.log
    wrong = next(find_false_flags(run), None)
    return check_contradiction(wrong, "as computed", log.where("result_validity"))


def find_false_flags(run: JudgedRun) -> Iterator[Contradiction]:
    """Yield flags that say met although the log's own numbers do not."""
    log = run.log
    asked = log.integer("effective_min_duration_ms") * (1 - SIX_DIGITS)
    yield from compare_flag(
        log, "result_min_duration_met", compute_final_s(run) * 1000, asked
    )
    flag, samples = "result_min_queries_met", run.samples
    least = log.integer("effective_min_query_count")
    yield from compare_flag(log, flag, run.queries, least)
    yield from compare_flag(
        log, flag, samples, log.integer("effective_min_sample_count")
    )
    share = log.number("effective_target_latency_percentile")
    if not 0 < share < 1:
        required = "between 0 and 1"
        key = "effective_target_latency_percentile"
        yield Contradiction(f"{key} {share:g}", required, log.where(key))
    elif run.scenario in STREAMS and log.has(Trait.EARLY_STOPPING):
        needed = early_stopping.count_queries_needed(1, share)
        yield from compare_flag(log, "early_stopping_met", run.queries, needed)
    elif run.scenario in BOUNDED:
        yield from find_false_latency_flags(run, share)


def find_false_latency_flags(run: JudgedRun, share: float) -> Iterator[Contradiction]:
    """Yield Server's flags that say met although the log's own bounds are broken."""
    log, flag = run.log, "result_perf_constraints_met"
    percent = format_share(share)
    if log.get("requested_use_token_latencies") is not True:
        counted = log.has(Trait.QUERY_COUNT)
        over = log.integer("result_overlatency_query_count") if counted else -1
        if 0 <= over <= run.queries:
            needed = early_stopping.count_queries_needed(over, share)
            yield from compare_flag(log, "early_stopping_met", run.queries, needed)
        bound = log.integer("effective_target_latency_ns")
        measured = log.integer(LATENCY.format(percent))
        yield from compare_flag(log, flag, bound, measured)
        return
    for kind, key in early_stopping_text.KINDS.items():
        bound = log.integer(f"requested_server_{kind}_latency")
        yield from compare_flag(log, flag, bound, log.integer(key.format(percent)))


def compare_flag(
    log: Log, flag: str, found: float, least: float
) -> Iterator[Contradiction]:
    """Yield a contradiction where a flag says met and a number is too small."""
    if log.flag(flag) and found < least:
        required = f"false, because {found:,.10g} is below {least:,.10g}"
        yield Contradiction(f"{flag} true", required, log.where(flag))


@check_limit(
    "min_duration",
    required=lambda run: run.rule.min_duration_ms,
    planned=lambda known: known.settings.min_duration_ms if known.settings else None,
)
def min_duration(run: JudgedRun, required_ms: int) -> Outcome:
    """The run lasted the minimum, and was set to do so (rules, 600 s)."""
    log = run.log
    key = "effective_min_duration_ms"
    setting, lasted = log.integer(key), compute_final_s(run) * 1000
    wall = read_elapsed_s(log) * 1000
    required = f"at least {required_ms:,} ms"
    if setting < required_ms:
        found, where = f"a setting of {setting:,} ms", log.where(key)
    elif lasted < required_ms * (1 - SIX_DIGITS):
        found, where = f"{lasted:,.0f} ms", log.where(find_duration_key(run))
    # Wall time, to the millisecond and on another clock, has to agree.
    elif wall + 2 < required_ms * (1 - read_clock_slack(run)):
        found, where = f"{wall:,.0f} ms by the clock", log.where("power_end")
    else:
        where = log.where(find_duration_key(run))
        return Outcome(True, f"{lasted:,.0f} ms", required, where)
    remedy = remedies.advise_longer_run(run, required_ms)
    return Outcome(False, found, required, where, remedy)


def read_clock_slack(run: JudgedRun) -> float:
    """Return the relative difference that LoadGen's clock may have."""
    told_so = any("clock differ by more than" in e.text for e in run.log.warnings)
    return TOLD_SLACK if told_so else CLOCK_SLACK


def find_duration_key(run: JudgedRun) -> str:
    """Return the key of the log that holds the run's duration."""
    return {
        Scenario.OFFLINE: "result_max_latency_ns",
        Scenario.SINGLE_STREAM: "result_qps_with_loadgen_overhead",
        Scenario.MULTI_STREAM: "power_end",
    }.get(run.scenario, "generated_query_duration")


@check("wall_time", modes=PERFORMANCE)
def wall_time(run: JudgedRun) -> Outcome:
    """The time stamps leave room for what was measured, and no more (loadgen.cc)."""
    elapsed, (least, most) = read_elapsed_s(run.log), compute_duration_range(run)
    room = read_clock_slack(run) * max(elapsed, most) + MARGIN_S
    where = run.log.where("power_end")
    wrong = None
    if not least - room <= elapsed <= most + room:
        required = f"{least:,.1f} s"
        if most - least > MARGIN_S:
            required += f" to {most:,.1f} s"
        wrong = Contradiction(f"{elapsed:,.1f} s by the clock", required, where)
    return check_contradiction(wrong, f"{elapsed:,.1f} s", where)


@check_limit(
    "min_query_count",
    required=lambda run: run.rule.min_query_count,
    planned=lambda known: known.settings.min_query_count if known.settings else None,
    scenarios=NOT_OFFLINE,
)
def min_query_count(run: JudgedRun, required: int) -> Outcome:
    """Enough queries were issued (LoadGen, min_query_count).

    Since v2.0 early stopping decides how many the percentile needs: the checker
    enforces no count beside it, and user.conf may lower mlperf.conf's.
    """
    if run.rule.percentile and run.rule.early_stopping:
        over = 1 if run.scenario in STREAMS else 0
        need = early_stopping.count_queries_needed(over, run.rule.percentile)
        required = min(required, need)
    log = run.log
    found = run.queries
    remedy = remedies.advise_more_queries(run, required)
    return Outcome(
        found >= required,
        f"{found:,} queries",
        f"at least {required:,}",
        log.where("result_query_count"),
        remedy,
    )


@check_limit(
    "min_sample_count",
    required=lambda run: run.rule.min_sample_count,
    planned=lambda known: known.settings.min_query_count if known.settings else None,
    scenarios=(Scenario.OFFLINE,),
)
def min_sample_count(run: JudgedRun, required: int) -> Outcome:
    """The Offline query held enough samples (submission checker, OFFLINE_MIN_SPQ)."""
    found = run.samples
    return Outcome(
        found >= required,
        f"{found:,} samples",
        f"at least {required:,}",
        run.log.where("generated_samples_per_query"),
        remedies.advise_more_queries(run, required),
    )
