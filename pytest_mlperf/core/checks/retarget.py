"""The remedy of an INVALID run as values to run it again by."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_mlperf.core import early_stopping
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.remedies import choose_offline_qps
from pytest_mlperf.core.checks.remedies import choose_server_qps
from pytest_mlperf.core.checks.remedies import choose_stream_latency_ns
from pytest_mlperf.core.checks.remedies import compute_bound_share
from pytest_mlperf.core.checks.remedies import compute_late_share
from pytest_mlperf.core.checks.remedies import list_best_cases
from pytest_mlperf.core.types import STREAMS
from pytest_mlperf.core.types import Scenario

ROOM = 1.05
"""More queries than early stopping needs: late ones do not come evenly."""


def choose_retarget(run: JudgedRun) -> Mapping[str, float | int]:
    """Return the values of ``tuning.json`` that are to be others in the next run.

    Empty where the remedy is no value: a machine that was busy or held back, a bound
    that no load keeps, an error.
    """
    log = run.log
    if log.errors and run.scenario not in STREAMS:
        return {}
    if run.scenario is Scenario.OFFLINE:
        if log.flag("result_min_duration_met"):
            return {}
        actual = log.number("result_samples_per_second")
        duration_ms = log.integer("effective_min_duration_ms")
        return {"target_qps": choose_offline_qps(actual, duration_ms)}
    if run.scenario in STREAMS:
        return _retarget_stream(run)
    return _retarget_load(run)


def _retarget_stream(run: JudgedRun) -> dict[str, float | int]:
    log, percentile = run.log, run.rule.percentile or 0.9
    asked = 1e9 / max(log.number("effective_target_qps"), 1e-9)
    if not log.flag("result_min_duration_met"):
        advised, _ = choose_stream_latency_ns(run)
        return {"expected_latency_ns": max(1, int(advised))} if advised < asked else {}
    needed = early_stopping.count_queries_needed(1, percentile)
    return {"queries": needed} if run.queries < needed else {}


def _retarget_load(run: JudgedRun) -> dict[str, float | int]:
    log, facts = run.log, run.context.run
    if facts.throttled or facts.is_disturbed:
        return {}
    if any(log.get(key, 0) > bound for key, bound, _ in list_best_cases(run)):
        return {}
    percentile = run.rule.percentile or 0.99
    share = compute_late_share(run)
    if share is not None and share <= 1 - percentile:
        over = log.integer("result_overlatency_query_count")
        enough = early_stopping.count_steady_queries(run.queries, over, percentile)
        if enough is not None:
            return {"queries": int(ROOM * enough)}
    if share is None and compute_bound_share(run) <= 1:
        return {}  # tokens keep their bounds: something else is wrong
    asked = log.number("effective_target_qps")
    completed = log.number("result_completed_samples_per_sec")
    scheduled = log.number("result_scheduled_samples_per_sec")
    lower = choose_server_qps(asked, completed, scheduled, share, 1 - percentile)
    return {"target_qps": lower} if lower > 0 else {}
