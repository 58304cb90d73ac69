"""Results of one scenario inferred from a run of another, on edge systems.

The pairs and formulas are get_inferred_result and inferred_check of mlcommons/
inference b66003e1, tools/submission/submission_checker/checks/performance_check.py.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

SS, MS = Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM
LEGAL = {(SS, MS), (SS, Scenario.OFFLINE), (MS, Scenario.OFFLINE)}
"""Scenario that ran, scenario inferred from it."""
SAMPLES_PER_QUERY = 8
NEEDED = 662
"""Queries without which LoadGen has no estimate of the 99th percentile."""


def is_legal(ran: Scenario, wanted: Scenario, category: str) -> bool:
    """True where a result may be inferred; an unknown system counts as edge."""
    return (ran, wanted) in LEGAL and ("edge" in category or not category)


def check_scenario(log: Log, ran: Scenario, wanted: Scenario, category: str) -> Check:
    """Return the check of a run that is not of its folder's scenario."""
    key = "effective_scenario"
    found, where = log.text(key), log.where(key)
    if is_legal(ran, wanted, category):
        required = f"{wanted.value}, or what it may be inferred from"
        if not category:
            required += " on an edge system (system_type is not known)"
        return Check("scenario", Status.PASS, found, required, where)
    remedy = f"judge it as {found}, or repeat the run as {wanted.loadgen}"
    if (ran, wanted) in LEGAL:
        found += f" on a {category} system"
        remedy = f"only edge systems may infer {wanted.value}: {remedy}"
    return Check("scenario", Status.FAIL, found, wanted.loadgen, where, remedy)


def infer_verdict(
    log: Log, verdict: Verdict, ran: Scenario, wanted: Scenario
) -> Verdict:
    """Return a run's verdict as that of the scenario it stands for.

    What was judged keeps the rule of the scenario that ran; the figure is computed.
    """
    try:
        metric = infer_metric(log, ran, wanted)
        check = check_metric(log, metric, ran)
    except LogError as error:
        metric = None
        check = check_unreadable("inferred_metric", error)
    return replace(
        verdict,
        scenario=wanted.value,
        inferred=ran.value,
        metric=metric,
        checks=(*verdict.checks, check),
    )


def infer_metric(log: Log, ran: Scenario, wanted: Scenario) -> Metric:
    """Return the inferred figure; ``LogError`` where the log lacks its parts.

    MultiStream is 8 x the 99th percentile estimate of SingleStream, in milliseconds.
    """
    if wanted is MS:
        key = "early_stopping_latency_ms"
        return Metric(key, SAMPLES_PER_QUERY * log.integer(key) / 1e6, "ms")
    if ran is SS:
        key = "result_qps_without_loadgen_overhead"
        return Metric(key, log.number(key), "samples/s")
    key = "result_mean_query_latency_ns"
    mean = log.integer(key)
    if mean <= 0:
        file = log.where(key).partition(":")[0]
        found = f"{key} = {mean}"
        raise LogError(log.folder / file, log.lines[key], found, "above 0")
    samples = log.integer("effective_samples_per_query")
    return Metric(key, samples * 1e9 / mean, "samples/s")


def check_metric(log: Log, metric: Metric, ran: Scenario) -> Check:
    """The inferred figure is there: LoadGen writes 0 where it has no estimate."""
    found, where = f"{metric.value:,.6g} {metric.unit}", log.where(metric.key)
    if metric.value > 0:
        return Check("inferred_metric", Status.PASS, found, "above 0", where)
    remedy = f"let the {ran.value} run last longer"
    if metric.unit == "ms":
        remedy = f"issue at least {NEEDED} queries: fewer give no 99th percentile"
    return Check("inferred_metric", Status.FAIL, found, "above 0", where, remedy)
