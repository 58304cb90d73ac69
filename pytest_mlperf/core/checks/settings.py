"""Was the run asked for what the round asks? Each check cites its source.

``submission checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/performance_check.py; ``rules`` is
mlcommons/inference_policies inference_rules.adoc.
"""

from __future__ import annotations

from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.context import format_ms
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import NOT_OFFLINE
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.rule_check import check_limit
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.equal_issue import KEY as EQUAL_ISSUE
from pytest_mlperf.core.logs.equal_issue import describe_equal_issue
from pytest_mlperf.core.logs.equal_issue import find_equal_issue
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

UNSEEN = (
    "{} accepted such results: LoadGen did not log equal issue, so that no checker"
    " could look; here the counts prove that it was not in use"
)
"""Of runs before 3fb6c3e1: 11 Offline and 1 Server of v4.1's closed results, 2 Offline
of v2.1's and 6 of v3.0's. LoadGen told nobody that the mode was off."""


@check("test_mode", any_scenario=True)
def test_mode(run: JudgedRun) -> Outcome:
    """The run is of the mode it is judged as (LoadGen, TestMode).

    LoadGen's SubmissionRun is a whole accuracy run and then a performance run, in one
    log. Three official accuracy folders hold one; no rule asks for another mode.
    """
    key = "effective_test_mode"
    found, required = run.log.text(key), run.mode.loadgen
    remedy = f"repeat the run with mode {required}"
    ok = found == required
    if run.mode is Mode.ACCURACY and run.log.both_modes:
        ok, found = True, f"{found}: accuracy mode, and performance mode after it"
    return Outcome(ok, found, required, run.log.where(key), remedy)


@check("scenario", any_scenario=True)
def scenario(run: JudgedRun) -> Outcome:
    """LoadGen ran the cell's scenario (submission checker, scenario)."""
    key = "effective_scenario"
    found, required = run.log.text(key), run.scenario.loadgen
    remedy = f"judge it as {found}, or repeat the run as {required}"
    return Outcome(found == required, found, required, run.log.where(key), remedy)


@check("seeds", modes=PERFORMANCE, any_scenario=True)
def seeds(run: JudgedRun) -> Outcome:
    """The three seeds are the round's (submission checker, seeds)."""
    log, wanted = run.log, run.round.seeds
    pairs = {
        "effective_qsl_rng_seed": wanted.qsl,
        "effective_sample_index_rng_seed": wanted.sample_index,
        "effective_schedule_rng_seed": wanted.schedule,
    }
    for key, required in pairs.items():
        found = log.integer(key)
        if found != required:
            remedy = f"set TestSettings from {run.round.name}'s seeds; each round has"
            remedy += " its own, and LoadGen compiles in those of one"
            return Outcome(
                False, f"{key} {found}", str(required), log.where(key), remedy
            )
    where = log.where("effective_qsl_rng_seed")
    return Outcome(True, f"{run.round.name}'s", f"{run.round.name}'s", where)


@check("target_latency_setting", modes=PERFORMANCE, scenarios=BOUNDED)
def target_latency_setting(run: JudgedRun) -> Outcome:
    """LoadGen counted late queries against the round's bound or a stricter one.

    Submission checker, latency constraint.
    """
    log, rule = run.log, run.rule
    pairs = {
        "effective_target_latency_ns": rule.target_latency_ns,
        "requested_server_ttft_latency": rule.ttft_ns,
        "requested_server_tpot_latency": rule.tpot_ns,
    }
    shown = []
    for key, required in pairs.items():
        if required is None:
            continue
        found = log.integer(key)
        shown.append(format_ms(found))
        if not 0 < found <= required:
            remedy = f"leave the bound to {rule.round}: {format_ms(required)}"
            return Outcome(
                False,
                format_ms(found),
                f"at most {format_ms(required)}",
                log.where(key),
                remedy,
            )
    found_text = ", ".join(shown) or "no bound"
    where = log.where("effective_target_latency_ns")
    required_text = "a bound of the round"
    return Outcome(bool(shown), found_text, required_text, where)


@check("target_percentile", modes=PERFORMANCE, scenarios=NOT_OFFLINE)
def target_percentile(run: JudgedRun) -> Outcome:
    """LoadGen estimated the round's percentile (rules, scenarios)."""
    key = "effective_target_latency_percentile"
    found, required = run.log.number(key), run.rule.percentile or 0.0
    remedy = "remove target_latency_percentile from user.conf"
    ok = abs(found - required) < 1e-9
    return Outcome(ok, f"{found:g}", f"{required:g}", run.log.where(key), remedy)


@check("samples_per_query", modes=PERFORMANCE, scenarios=NOT_OFFLINE)
def samples_per_query(run: JudgedRun) -> Outcome:
    """MultiStream sends 8 samples a query, SingleStream and Server 1 (rules)."""
    key = "generated_samples_per_query"
    found, required = run.log.integer(key), run.rule.samples_per_query
    remedy = "remove samples_per_query from user.conf"
    return Outcome(
        found == required, str(found), str(required), run.log.where(key), remedy
    )


@check_limit(
    "performance_sample_count",
    required=lambda run: run.rule.performance_sample_count,
    planned=lambda known: (
        known.settings.performance_sample_count if known.settings else None
    ),
)
def performance_sample_count(run: JudgedRun, required: int) -> Outcome:
    """So many samples were in memory, as set and as loaded (submission checker).

    Of a dataset that has fewer, all: its size is an accuracy run's business.
    """
    log = run.log
    key = "effective_performance_sample_count"
    asked, loaded = log.integer(key), log.covered
    short = loaded < min(asked, log.integer("qsl_reported_total_count"))
    where = log.where("loaded_qsl_set" if short else key)
    found = min(asked, loaded) if short else asked
    remedy = f"raise performance_sample_count_override to {required:,}"
    return Outcome(
        found >= required, f"{found:,} samples", f"at least {required:,}", where, remedy
    )


@check("issue_modes", modes=PERFORMANCE, in_audits=False)
def issue_modes(run: JudgedRun) -> Outcome:
    """Samples were drawn as the scenario draws them: not one sample, nor each once.

    In equal shares where the round says so (rules, equal issue mode).
    """
    log = run.log
    for key in ("issue_same", "issue_unique"):
        full = f"effective_performance_{key}"
        if log.flag(full):
            remedy = f"remove performance_{key}; only compliance tests set it"
            return Outcome(False, key, "off", log.where(full), remedy)
    return explain_equal_issue(run)


def explain_equal_issue(run: JudgedRun) -> Outcome:
    """Return whether the samples were issued equally often, where the round asks."""
    log = run.log
    required = "equal issue" if run.rule.equal_issue else "either"
    equal = find_equal_issue(log)
    found, remedy = (
        describe_equal_issue(log, equal),
        "set sample_concatenate_permutation to 1",
    )
    ok = equal is not False or not run.rule.equal_issue
    waived = ""
    unseen = not log.has(Trait.PERMUTATION_LOGGED)
    if unseen and run.scenario in (Scenario.OFFLINE, Scenario.SERVER):
        waived = UNSEEN.format(run.round.name)
    return Outcome(ok, found, required, log.where(EQUAL_ISSUE), remedy, waived)


@check("token_latencies", modes=PERFORMANCE)
def token_latencies(run: JudgedRun) -> Outcome:
    """Token latencies are used where the round measures tokens, and only there.

    Submission checker, LLM check.
    """
    key = "requested_use_token_latencies"
    found, required = run.log.get(key, False), run.rule.use_token_latencies
    remedy = "set use_token_latencies as mlperf.conf has it"
    return Outcome(
        found is required,
        "on" if found else "off",
        "on" if required else "off",
        run.log.where(key),
        remedy,
    )
