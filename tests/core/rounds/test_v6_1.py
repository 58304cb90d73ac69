"""What v6.1 alone has: durations and units of its new benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support import logs

SECOND = 1_000_000_000


def find_rule(benchmark: str, scenario: Scenario, round_name: str = "v6.1") -> Rule:
    """Return a rule that the round has."""
    found = rounds.get(round_name).find(benchmark, "", scenario)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "short_passes"),
    [("e2e-rag-qna", True), ("e2e-rag-db", True), ("rgat", False)],
)
def test_one_pass_over_the_retrieval_datasets_may_be_short(
    tmp_path: Path, name: str, short_passes: bool
) -> None:
    """The checker exempts two benchmarks from 600 s, and no other."""
    rule = find_rule(name, Scenario.OFFLINE)
    folder = logs.performance(
        tmp_path,
        "Offline",
        latencies=logs.rising(rule.min_sample_count, SECOND, 30 * SECOND),
        change={"effective_min_duration_ms": 0},
    )
    verdict = judge(folder, Cell(rule, ""), Mode.PERFORMANCE, Context())
    states = {check.name: check.status.value for check in verdict.checks}

    assert (states["min_duration"] == "pass") is short_passes


def test_units_are_those_that_the_round_publishes(tmp_path: Path) -> None:
    """Tasks a second, and seconds for a video, in v6.0's published table too."""
    rag = find_rule("e2e-rag-qna", Scenario.OFFLINE)
    folder = logs.performance(tmp_path, "SingleStream")
    shown = {}
    for benchmark, name in (
        ("wan-2.2-t2v-a14b", "v6.0"),
        ("wan-2.2-t2v-a14b", "v6.1"),
        ("resnet50", "v6.1"),
    ):
        rule = find_rule(benchmark, Scenario.SINGLE_STREAM, name)
        verdict = judge(folder, Cell(rule, ""), Mode.PERFORMANCE, Context())
        assert verdict.metric is not None
        shown[benchmark, name] = (verdict.metric.unit, verdict.metric.value)
    (video, _), (later, seconds), (picture, milliseconds) = shown.values()

    assert rag.unit == "tasks/s"
    assert find_rule("e2e-rag-db", Scenario.OFFLINE).unit == "samples/s"
    assert (video, later, picture) == ("s", "s", "ms")
    assert milliseconds == pytest.approx(1000 * seconds)
