"""Compliance runs as LoadGen logs them, and what their verification says."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.compliance import write
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from tests.support import logs
from tests.support.answer_logs import log_of
from tests.support.answer_logs import numbers

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


CLASSES = [(index, numbers(index * 300)) for index in range(40)]
"""Sample -> its answer, of a classifier."""


def log_answers(folder: Path, given: Sequence[tuple[int, bytes]]) -> Path:
    return log_of(folder, [{"index": i, "data": data} for i, data in given])


def log_speed(folder: Path, scenario: str, figure: float, **change: object) -> Path:
    """Write a performance run whose figure is this."""
    keys = {
        "Offline": "result_samples_per_second",
        "Server": "result_completed_samples_per_sec",
        "SingleStream": "early_stopping_latency_ss",
        "MultiStream": "early_stopping_latency_ms",
    }
    value = int(figure) if "Stream" in scenario else figure
    return logs.performance(folder, scenario, change={keys[scenario]: value, **change})


def verify_run(
    test: str,
    folder: Path,
    references: Mapping[str, Path],
    benchmark: str = "resnet50",
    **where: str,
) -> tuple[AuditFinding, ...]:
    rule = rule_of(benchmark, **where)
    audit = find(test, rule)
    findings = verify(audit, rule, folder, references)
    write(audit, folder, findings)
    return findings
