"""Did a compliance run have its test's settings? What the test changes is allowed.

LoadGen reads audit.config last of all files (loadgen/loadgen.cc, StartTest). The
official checkers hold TEST01's and TEST04's log to the rules of a performance run:
mlcommons/inference b66003e1, submission_checker/checks/compliance_check.py.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.checks import settings
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import COMPLIANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.logs.equal_issue import find_equal_issue
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.types import Scenario

NOT_FOUND = (
    ": LoadGen found none. It looks in the folder that it was started in, and the"
    " reference's scripts of bert and the LLMs look for audit.conf unless --audit-conf"
    " names the file"
)
"""mlcommons/inference b66003e1: loadgen.cc, StartTest; language/*/main.py."""


def use_audit_seeds(run: JudgedRun) -> JudgedRun:
    """Return the run with the seeds of its compliance test, where that has its own."""
    audit = run.context.audit
    seeds = audit.test.seeds(run.round.seeds) if audit else None
    if seeds is None or seeds == run.round.seeds:
        return run
    return replace(run, round=replace(run.round, seeds=seeds))


@check("audit_settings", modes=COMPLIANCE)
def audit_settings(run: JudgedRun) -> Outcome:
    """LoadGen found audit.config, and what it set was in force.

    In somebody else's log only the settings count: some apply the file themselves.
    """
    audit, log = run.context.audit, run.log
    where = DETAIL
    if audit is None:
        remedy = "judge it as a performance run"
        return Outcome(False, "no compliance test", "one", where, remedy)
    hits = [e for e in log.warnings if "Found Audit Config file" in e.text]
    if not hits and run.context.settings is not None:
        remedy = "LoadGen has to be given the path of audit.config"
        return Outcome(False, "no audit.config", "one in use", where, remedy)
    for key, required in audit.values.items():
        logged = find_logged_key(run, key)
        if not logged:
            continue
        found = int(log.values.get(logged, -1))
        # LoadGen skips a count that audit.config gives for a model, and mlperf.conf's
        # larger one stays: 100 in every SingleStream TEST04 of wan in v6.0.
        if found != required and not (key == "min_query_count" and found > required):
            remedy = f"run it with {audit.name}'s audit.config"
            if not hits:
                remedy += NOT_FOUND
            text, wanted = f"{key} = {found}", str(required)
            return Outcome(False, text, wanted, log.where(logged), remedy)
    if run.rule.equal_issue and audit.as_performance and find_equal_issue(log) is False:
        unequal = settings.explain_equal_issue(run)
        if not unequal.waived:
            return unequal
        where = unequal.where
    where = hits[0].where if hits else where
    return Outcome(True, f"{audit.name}'s", f"{audit.name}'s", where)


def find_logged_key(run: JudgedRun, key: str) -> str:
    """Return the key of the detail log for one of audit.config; empty for none."""
    if key == "mode":
        return ""  # test_mode looks at it.
    if key == "min_duration":
        return "effective_min_duration_ms"
    if key == "min_query_count":
        # LoadGen makes one query of Offline's, and counts samples.
        return "" if run.scenario is Scenario.OFFLINE else "effective_min_query_count"
    return f"effective_{key}"
