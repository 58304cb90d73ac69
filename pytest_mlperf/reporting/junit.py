"""A verdict as junit properties, for dashboards that read nothing else.

pytest writes the junit file, from properties that every item carries while it ends, so
this report is no ``Reporter`` either. The property with the whole verdict is also how a
worker of xdist sends it to the controller.
"""

from __future__ import annotations

from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

KEY = "mlperf"
"""The property that holds the whole verdict as JSON."""


def list_properties(verdict: Verdict) -> list[tuple[str, str]]:
    """Return name and text pairs: the whole verdict, then its headline flat."""
    passed = sum(check.status is Status.PASS for check in verdict.checks)
    found = {
        KEY: verdict.to_json(),
        "mlperf.outcome": verdict.outcome,
        "mlperf.round": verdict.round,
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
    if text := verdict.tokens():
        found["mlperf.tokens"] = text
    return list(found.items())
