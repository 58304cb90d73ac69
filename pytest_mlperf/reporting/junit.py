"""A verdict as junit properties, for dashboards that read nothing else.

pytest writes the junit file, from properties that every item carries while it ends, so
this report is no ``Reporter`` either. The property with the whole verdict is also how a
worker of xdist sends it to the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

KEY = "mlperf"
"""The property that holds the whole verdict as JSON."""


def list_suite_properties(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and text pairs of a session: what ran, on what, at which commit."""
    system = header["system"]
    found = {
        "mlperf.system": system["name"],
        "mlperf.system.summary": system["summary"],
        "mlperf.rounds": ",".join(header["rounds"]),
        "mlperf.started": header["started"],
        "mlperf.host": header["host"],
        "mlperf.commit": header["commit"],
    }
    found |= {f"mlperf.version.{k}": one for k, one in header["versions"].items()}
    return [(name, text) for name, text in found.items() if text]


def list_item(cell: Cell, mode: str) -> list[tuple[str, str]]:
    """Return name and text pairs of what an item runs, whatever becomes of it."""
    found = {
        "mlperf.round": cell.round,
        "mlperf.benchmark": cell.model,
        "mlperf.scenario": cell.scenario.slug,
        "mlperf.engine": cell.engine,
        "mlperf.mode": mode,
    }
    return list(found.items())


def list_properties(verdict: Verdict) -> list[tuple[str, str]]:
    """Return name and text pairs: the whole verdict, then its headline flat."""
    passed = sum(check.status is Status.PASS for check in verdict.checks)
    found = {
        KEY: verdict.to_json(),
        "mlperf.outcome": verdict.outcome,
        "mlperf.labels": ",".join(verdict.labels),
        "mlperf.rules": f"{passed}/{len(verdict.checks)}",
        "mlperf.waived": ",".join(check.name for check in verdict.waived),
    }
    if verdict.metric:
        found["mlperf.metric"] = verdict.metric.key
        found["mlperf.value"] = repr(verdict.metric.value)
        found["mlperf.unit"] = verdict.metric.unit
    if verdict.limit:
        found["mlperf.limit"] = f"{verdict.limit.value!r} {verdict.limit.unit}"
        found["mlperf.limit.value"] = repr(verdict.limit.value)
    for score in verdict.scores:
        found[f"mlperf.score.{score.metric}"] = repr(score.value)
    if verdict.at_percentile and verdict.percentile is not None:
        found["mlperf.percentile"] = repr(verdict.percentile)
        found["mlperf.latency.value"] = repr(verdict.at_percentile.value)
        found["mlperf.latency.unit"] = verdict.at_percentile.unit
    if verdict.tpot:
        found["mlperf.tpot.value"] = repr(verdict.tpot.value)
        found["mlperf.tpot.unit"] = verdict.tpot.unit
    if verdict.tpot_limit:
        found["mlperf.tpot.limit.value"] = repr(verdict.tpot_limit.value)
    found["mlperf.others_share"] = repr(verdict.run.others_share)
    if verdict.cause:
        found["mlperf.cause"] = verdict.cause
    if text := verdict.tokens():
        found["mlperf.tokens"] = text
    return list(found.items())
