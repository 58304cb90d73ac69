"""Values that LoadGen never writes, and files of two runs in one folder.

No official checker looks at any of them. Honest logs were asked too: 727 performance
runs of six rounds have a positive duration, streams and servers the minimum at least.
"""

from __future__ import annotations

from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.consistency import REMEDY
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import Outcome
from pytest_mlperf.core.checks.rule_check import ACCURACY
from pytest_mlperf.core.checks.rule_check import PERFORMANCE
from pytest_mlperf.core.checks.rule_check import check
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SIX_DIGITS
from pytest_mlperf.core.logs.log import SUMMARY
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario

DURATION = "generated_query_duration"
COUNTED_SINCE = "v6.0"
"""The first round whose every LoadGen counts its errors: 5.0.16 was the first to."""
RESULTS = ("Result is", "Mode", "Scenario")
"""Labels that the summary of a performance run has, and none of the 6,700 accuracy
runs in the closed results of v1.1, v2.0, v2.1, v3.0, v4.1 and v5.1."""


@check("generated_duration", any_scenario=True)
def generated_duration(run: JudgedRun) -> Outcome:
    """LoadGen generates queries until they fill the minimum duration (loadgen.cc).

    Offline's one query takes the time between two at the expected rate.
    """
    log, where = run.log, run.log.where(DURATION)
    found = min(log.series.get(DURATION) or (log.integer(DURATION),))
    if found <= 0:
        return Outcome(False, f"{found:,} ns", "above 0", where, REMEDY)
    least = 0.0
    if run.mode is Mode.PERFORMANCE and run.scenario is not Scenario.OFFLINE:
        least = log.integer("effective_min_duration_ms") * 1e6 * (1 - SIX_DIGITS)
    required = f"at least {least:,.0f} ns, effective_min_duration_ms"
    required = required if least else "above 0"
    return Outcome(found >= least, f"{found:,} ns", required, where, REMEDY)


@check("accuracy_summary", modes=ACCURACY)
def accuracy_summary(run: JudgedRun) -> Outcome:
    """The summary beside an accuracy run's detail log is that run's: two counts."""
    log = run.log
    labels = [label for label in RESULTS if label in log.summary]
    # A run of both modes has both in one folder: ``test_mode`` judges that.
    if not labels or log.get("effective_test_mode") != run.mode.loadgen:
        return Outcome(True, "two counts", "two counts", SUMMARY)
    where = f"{SUMMARY}:{log.summary_lines[labels[0]]}"
    found = f"{labels[0]}: {log.summary[labels[0]][:40]}"
    required = "no result: the accuracy run's own summary has none"
    return Outcome(False, found, required, where, "put both logs of one run there")


@check("errors_counted", modes=PERFORMANCE)
def errors_counted(run: JudgedRun) -> Outcome:
    """A performance log of a round since v6.0 has LoadGen's count of its errors.

    A log without it is of an older LoadGen than the round's, or the line was lost.
    """
    log, key = run.log, "num_errors"
    known = rounds.ROUNDS.index(run.round.name) < rounds.ROUNDS.index(COUNTED_SINCE)
    found = f"{log.get(key)}" if key in log.values else f"no {key}"
    required = f"a line with {key}, which LoadGen writes since 5.0.16"
    if known or key in log.values:
        return Outcome(True, found, required, log.where(key))
    remedy = f"repeat the run with the LoadGen of {run.round.name}"
    return Outcome(False, found, required, DETAIL, remedy)
