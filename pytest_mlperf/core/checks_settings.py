"""Was the run asked for what the round asks? Each check cites its source.

``submission checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/performance_check.py; ``rules`` is
mlcommons/inference_policies inference_rules.adoc.
"""

from __future__ import annotations

from pytest_mlperf.core.evidence import Run
from pytest_mlperf.core.evidence import check
from pytest_mlperf.core.evidence import ms
from pytest_mlperf.core.log import DETAIL
from pytest_mlperf.core.log import SUMMARY
from pytest_mlperf.core.verdict import Check


def test_mode(run: Run) -> Check:
    """The run is of the mode it is judged as (LoadGen, TestMode)."""
    key = "effective_test_mode"
    found, required = run.log.text(key), run.mode.loadgen
    remedy = f"repeat the run with mode {required}"
    return check(
        "test_mode", found == required, found, required, run.log.where(key), remedy
    )


def scenario(run: Run) -> Check:
    """LoadGen ran the cell's scenario (submission checker, scenario)."""
    key = "effective_scenario"
    found, required = run.log.text(key), run.scenario.loadgen
    remedy = f"judge it as {found}, or repeat the run as {required}"
    return check(
        "scenario", found == required, found, required, run.log.where(key), remedy
    )


def summary_agrees(run: Run) -> Check:
    """Summary and detail tell of the same run (no official checker looks)."""
    log = run.log
    pairs = {
        "Scenario": "effective_scenario",
        "Mode": "effective_test_mode",
        "Result is": "result_validity",
        "SUT name": "sut_name",
    }
    for label, key in pairs.items():
        found = log.summary.get(label)
        required = str(log.get(key)).strip()
        if found != required:
            place = f"{SUMMARY}:{log.summary_lines.get(label, 0)}"
            required = f"{label} {required}, as {log.where(key)} has it"
            remedy = "keep the two files of one run together; repeat the run"
            found = f"{label} {found}"
            return check("summary_agrees", False, found, required, place, remedy)
    return check("summary_agrees", True, "one run", "one run", SUMMARY)


def seeds(run: Run) -> Check:
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
            return check(
                "seeds", False, f"{key} {found}", str(required), log.where(key), remedy
            )
    where = log.where("effective_qsl_rng_seed")
    return check("seeds", True, f"{run.round.name}'s", f"{run.round.name}'s", where)


def target_latency_setting(run: Run) -> Check:
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
        shown.append(ms(found))
        if not 0 < found <= required:
            remedy = f"leave the bound to {rule.round}: {ms(required)}"
            return check(
                "target_latency_setting",
                False,
                ms(found),
                f"at most {ms(required)}",
                log.where(key),
                remedy,
            )
    found_text = ", ".join(shown) or "no bound"
    where = log.where("effective_target_latency_ns")
    required_text = "a bound of the round"
    return check(
        "target_latency_setting", bool(shown), found_text, required_text, where
    )


def target_percentile(run: Run) -> Check:
    """LoadGen estimated the round's percentile (rules, scenarios)."""
    key = "effective_target_latency_percentile"
    found, required = run.log.number(key), run.rule.percentile or 0.0
    remedy = "remove target_latency_percentile from user.conf"
    ok = abs(found - required) < 1e-9
    return check(
        "target_percentile",
        ok,
        f"{found:g}",
        f"{required:g}",
        run.log.where(key),
        remedy,
    )


def samples_per_query(run: Run) -> Check:
    """MultiStream sends 8 samples a query, SingleStream and Server 1 (rules)."""
    key = "generated_samples_per_query"
    found, required = run.log.integer(key), run.rule.samples_per_query
    remedy = "remove samples_per_query from user.conf"
    return check(
        "samples_per_query",
        found == required,
        str(found),
        str(required),
        run.log.where(key),
        remedy,
    )


def performance_sample_count(run: Run, required: int) -> Check:
    """So many samples were in memory, as set and as loaded (submission checker)."""
    log = run.log
    key = "effective_performance_sample_count"
    asked, loaded = log.integer(key), log.integer("loaded_qsl_set")
    where = log.where(key if asked < required else "loaded_qsl_set")
    found = min(asked, loaded)
    remedy = f"raise performance_sample_count_override to {required:,}"
    return check(
        "performance_sample_count",
        found >= required,
        f"{found:,} samples",
        f"at least {required:,}",
        where,
        remedy,
    )


def issue_modes(run: Run) -> Check:
    """Samples came as the scenario draws them: neither all the same nor all unlike.

    In equal shares where the round says so (rules, equal issue mode).
    """
    log = run.log
    for key in ("issue_same", "issue_unique"):
        full = f"effective_performance_{key}"
        if log.flag(full):
            remedy = f"remove performance_{key}; only compliance tests set it"
            return check("issue_modes", False, key, "off", log.where(full), remedy)
    key = "effective_sample_concatenate_permutation"
    equal = log.flag(key)
    found = "equal issue" if equal else "no equal issue"
    required = "equal issue" if run.rule.equal_issue else "either"
    remedy = "set sample_concatenate_permutation to 1"
    ok = equal or not run.rule.equal_issue
    return check("issue_modes", ok, found, required, log.where(key), remedy)


def token_latencies(run: Run) -> Check:
    """Token latencies are used where the round measures tokens, and only there.

    Submission checker, LLM check.
    """
    key = "requested_use_token_latencies"
    found, required = run.log.get(key, False), run.rule.use_token_latencies
    remedy = "set use_token_latencies as mlperf.conf has it"
    return check(
        "token_latencies",
        found is required,
        "on" if found else "off",
        "on" if required else "off",
        run.log.where(key),
        remedy,
    )


def loadgen_unmodified(run: Run) -> Check:
    """LoadGen was built from committed sources (rules, LoadGen must not change)."""
    log = run.log
    key = "loadgen_git_status_message"
    changed = str(log.get(key, "")).strip()
    flagged = [e for e in log.errors if e.key == "error_uncommitted_loadgen_changes"]
    where = flagged[0].where if flagged else log.where(key)
    found = changed[:60] or (flagged[0].text[:60] if flagged else "clean")
    remedy = "install the released mlcommons-loadgen"
    ok = not changed and not flagged
    return check("loadgen_unmodified", ok, found, "clean sources", where, remedy)


def no_audit_config(run: Run) -> Check:
    """No audit.config altered the settings (LoadGen reads a stray one silently).

    Our own runs must be free of it. Of somebody else's log the other checks judge
    what it set: v5.1 accepted a result whose audit.config only sampled answers.
    """
    hits = [e for e in run.log.warnings if "Found Audit Config file" in e.text]
    where = hits[0].where if hits else DETAIL
    found = "audit.config in use" if hits else "none in use"
    ours = run.context.settings is not None
    required = "none in use" if ours else "none that eases the run"
    remedy = "remove audit.config from the folder that LoadGen was started in"
    return check("no_audit_config", not (hits and ours), found, required, where, remedy)


def no_errors(run: Run) -> Check:
    """LoadGen logged no error (accuracy check of the submission checker).

    Changed sources are ``loadgen_unmodified``'s business. num_errors counts only what
    came before it; later errors stand in their lines alone.
    """
    log = run.log
    own = [e for e in log.errors if e.key != "error_uncommitted_loadgen_changes"]
    counted = log.integer("num_errors") if "num_errors" in log.values else 0
    count = max(log.error_count, counted) - (len(log.errors) - len(own))
    found, where = "no error", log.where("num_errors")
    if own:
        found, where = f"{count:,} errors, first: {own[0].text[:120]}", own[0].where
    elif count:
        found = f"num_errors = {counted:,}"
    remedy = "remove the cause that the first error names"
    return check("no_errors", count == 0, found, "no error", where, remedy)


ALWAYS = (test_mode, scenario, loadgen_unmodified, no_audit_config, no_errors)
"""Of every run."""
