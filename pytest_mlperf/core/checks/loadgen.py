"""Was LoadGen the released one, alone in charge, and without complaint?

``submission checker`` is mlcommons/inference b66003e1,
tools/submission/submission_checker/checks/; ``rules`` is mlcommons/inference_policies
inference_rules.adoc.
"""

from __future__ import annotations

import re

from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.checks.tokens import TWO_TOKENS
from pytest_mlperf.core.checks.tokens import has_short_answers
from pytest_mlperf.core.logs.dialect import Trait
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.logs.log import Event


@check("loadgen_unmodified", any_scenario=True)
def loadgen_unmodified(run: JudgedRun) -> Outcome:
    """LoadGen was built from committed sources (rules, LoadGen must not change)."""
    log = run.log
    key = "loadgen_git_status_message"
    changed = str(log.get(key, "")).strip()
    # What version_generator.py writes where it finds no git: not a sign of change.
    changed = "" if changed == "NA" else changed
    flagged = [e for e in log.errors if e.key == "error_uncommitted_loadgen_changes"]
    where = flagged[0].where if flagged else log.where(key)
    found = changed[:60] or (flagged[0].text[:60] if flagged else "clean")
    remedy = "install the released mlcommons-loadgen"
    ok = not changed and not flagged
    return Outcome(ok, found, "clean sources", where, remedy)


@check("loadgen_version", any_scenario=True)
def loadgen_version(run: JudgedRun) -> Outcome:
    """The LoadGen is no older than the oldest of the round's results.

    The rules ask for the round's release. What an old LoadGen did not log is not asked
    of its logs, so that a new log must not pass for one of them.
    """
    dialect, since = run.log.dialect, run.round.loadgen_since
    required = f"one since {since}, as in {run.round.name}"
    ok = f"{dialect.date:%Y-%m-%d}" >= since
    where, remedy = (
        run.log.where("loadgen_version"),
        "use the released mlcommons-loadgen",
    )
    return Outcome(ok, f"{dialect}", required, where, remedy)


@check("no_audit_config", in_audits=False, any_scenario=True)
def no_audit_config(run: JudgedRun) -> Outcome:
    """No audit.config altered the settings (LoadGen reads a stray one silently).

    Our own runs must be free of it. In somebody else's log the settings of a compliance
    test are visible, and the other checks judge them: v5.1 accepted a result whose
    audit.config only sampled answers. A file that left no trace may have set anything.
    """
    log = run.log
    hits = [e for e in log.warnings if "Found Audit Config file" in e.text]
    where = hits[0].where if hits else DETAIL
    shown = [key for key in AUDITED if log.get(key)]
    found, required = "none in use", "none in use"
    if hits:
        found = f"audit.config in use ({', '.join(shown) or 'nothing shows for what'})"
    # Before there was equal issue, LoadGen logged every setting that there was.
    is_visible = bool(shown) or not log.has(Trait.OFFLINE_PERMUTATIONS)
    ok = not hits or (is_visible and run.context.settings is None)
    remedy = "remove audit.config from the folder that LoadGen was started in"
    return Outcome(ok, found, required, where, remedy)


AUDITED = (
    "effective_accuracy_log_sampling_target",
    "effective_performance_issue_same",
    "effective_performance_issue_unique",
)
"""Keys of which the audit.config of a compliance test sets at least one."""


@check("no_errors", any_scenario=True)
def no_errors(run: JudgedRun) -> Outcome:
    """LoadGen logged no error (accuracy check of the submission checker).

    ``loadgen_unmodified`` checks for changed sources. num_errors counts only earlier
    errors; later ones have lines of their own and are in the summary's count.
    """
    log = run.log
    aside = [e for e in log.errors if e.key == "error_uncommitted_loadgen_changes"]
    aside += find_planned_ends(run)
    aside += find_second_configs(run)
    own = [e for e in log.errors if e not in aside]
    counted = log.integer("num_errors") if "num_errors" in log.values else 0
    count = max(log.error_count, counted, log.summary_errors)
    count -= len(aside)
    found, where = "no error", log.where("num_errors")
    if own:
        found, where = f"{count:,} errors, first: {own[0].text[:120]}", own[0].where
    elif counted and count:
        found = f"num_errors = {counted:,}"
    elif count:
        found, where = f"{count:,} errors counted", SUMMARY
    ok = count == 0 and counted >= 0
    remedy = "remove the cause that the first error names"
    if has_short_answers(log):
        remedy = TWO_TOKENS
    return Outcome(ok, found, "no error", where, remedy)


SECOND_CONFIG = "Multiple conf files are used"
ENDING_EARLY = "Ending early: Ran out of generated queries"
ALL_ASKED = re.compile(r"IssueQueryThread \d+ Ending early: Max query count reached\.")


def find_second_configs(run: JudgedRun) -> list[Event]:
    """Return the errors of a compliance run whose user.conf was read a second time.

    Since v6.0 the submission checker lets them pass there (performance_check.py,
    compliance_skip). The seeds and settings are judged all the same: a process whose
    second run had neither is found by them. Our own processes run once.
    """
    context = run.context
    if context.audit is None or context.settings is not None:
        return []
    if rounds.is_before(run.round.name, "v6.0"):
        return []
    return [e for e in run.log.errors if e.text.startswith(SECOND_CONFIG)]


def find_planned_ends(run: JudgedRun) -> list[Event]:
    """Return the errors that LoadGen logs because a test's run ends with its samples.

    TEST04-A issues each sample once, and TEST04-B as many; GenerateQueries makes no
    more, and the rest of LoadGen does not know that. TEST07 asks for 990 queries, and
    a submitter may set as many as the most (v6.0, v6.1); its speed is not judged.
    """
    audit, log = run.context.audit, run.log
    if audit is None:
        return []
    asked, most = audit.values.get("min_query_count"), "effective_max_query_count"
    if asked and not audit.as_performance and log.get(most) == asked:
        return [e for e in log.errors if ALL_ASKED.match(e.text)]
    if not audit.test.ends_early:
        return []
    flags = ("effective_performance_issue_unique", "effective_performance_issue_same")
    if not any(log.get(flag) is True for flag in flags):
        return []
    return [e for e in log.errors if e.text.startswith(ENDING_EARLY)]
