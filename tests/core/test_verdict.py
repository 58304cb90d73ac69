"""A verdict in words: the cause first, then every rule that did not pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.verdict import OTHERS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict

Make = Callable[..., Verdict]
TITLE = "bert-99 Server performance (onnxruntime)"
BESIDE = ", beside other load of 40% of its CPUs"
SEEDS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "detail:5")
LATE = Check(
    "latency_bound", Status.FAIL, "p99 latency 50.1 ms", "15 ms", "detail:7",
    "lower target_qps",
)  # fmt: skip
SHORT = Check("min_duration", Status.WAIVED, "60,000 ms", "600,000 ms", "detail:9")
FAILED: dict[str, Any] = {
    "metric": Metric("result_completed_samples_per_sec", 12.5, "queries/s"),
    "checks": (SEEDS, SHORT, LATE),
    "labels": ("fast",),
    "limit": Metric("target_latency", 15.0, "ms"),
    "percentile": 0.99,
    "at_percentile": Metric("result_99.00_percentile_latency_ns", 50.1, "ms"),
    "folder": "reports/logs/bert",
    "facts": {"tuning": "85% of the bare loop", OTHERS: "40% of its CPUs"},
    "run": RunFacts(is_disturbed=True, others_share=0.4),
}


def test_an_invalid_verdict_begins_with_its_cause(make_verdict: Make) -> None:
    """Then how it was tuned, what disturbed it, and where its logs are."""
    assert make_verdict(**FAILED).explain().splitlines() == [
        "p99 50.1 ms > 15 ms at 12.5 queries/s",
        f"{TITLE}: INVALID under v4.1 [fast: not a submission result]{BESIDE}",
        f"  {'fail':6} {LATE}",
        f"  {'waived':6} {SHORT}",
        "  tuned by: 85% of the bare loop",
        f"  {OTHERS}: 40% of its CPUs",
        "  1 of 3 rules passed",
        "  logs: reports/logs/bert",
    ]


def test_a_valid_verdict_says_neither_cause_nor_tuning(make_verdict: Make) -> None:
    """An inferred one names the scenario that ran."""
    fine = {**FAILED, "checks": (SEEDS,), "labels": (), "inferred": "SingleStream"}

    assert make_verdict(**fine).explain().splitlines() == [
        f"{TITLE}: VALID under v4.1, inferred from SingleStream{BESIDE}",
        "  1 of 1 rules passed",
        "  logs: reports/logs/bert",
    ]


def test_a_verdict_of_no_rule_is_an_error(make_verdict: Make) -> None:
    """A gate that looks at nothing does not pass."""
    lines = make_verdict(checks=()).explain().splitlines()

    assert lines[0] == "no rule was checked"
    assert "  error  no rule was checked; a gate needs one to judge" in lines
    assert "  0 of 0 rules passed" in lines


@pytest.mark.parametrize(
    ("unit", "value", "is_late"),
    [("ms", 15.1, True), ("ms", 15.0, False), ("s", 15.1, False)],
)
def test_a_latency_is_late_above_its_limit_in_one_unit(
    make_verdict: Make, unit: str, value: float, is_late: bool
) -> None:
    """At the limit it is in time."""
    found = {**FAILED, "at_percentile": Metric("p99", value, unit)}

    assert make_verdict(**found).is_late is is_late
