"""Shared by several test modules."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status

FOUND = "Found Audit Config file (audit.config). Overwriting TestSettings."


SAME = {
    "effective_performance_issue_same": True,
    "effective_performance_issue_same_index": 3,
}


def rule_of(
    benchmark: str,
    scenario: str = "Offline",
    round_name: str = "v6.1",
    target: str = "",
) -> Rule:
    kind = Scenario.parse(scenario)
    found = rounds.get(round_name).find(benchmark, target, kind)
    assert found is not None
    return found


def outcome(findings: Sequence[AuditFinding]) -> dict[str, Status]:
    return {c.name: c.status for found in findings for c in found.checks}
