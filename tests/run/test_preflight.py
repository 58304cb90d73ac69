"""What a run will take, and which are refused before they begin."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.preflight import check_disk
from pytest_mlperf.run.preflight import check_memory
from pytest_mlperf.run.preflight import check_time
from pytest_mlperf.run.preflight import planned_samples
from tests.support.run_settings import ENOUGH
from tests.support.run_settings import FAST
from tests.support.run_settings import SCENARIOS
from tests.support.run_settings import plan_resnet50


def test_what_loadgen_will_issue_is_known_beforehand() -> None:
    """Offline by rate and slack, Server by rate, accuracy by the dataset."""
    offline, server = plan_resnet50(Scenario.OFFLINE), plan_resnet50(Scenario.SERVER)

    assert int(1.1 * 600 * 123.456) == planned_samples(offline, 270)
    assert int(600 * 123.456) == planned_samples(server, 270)
    assert planned_samples(plan_resnet50(Scenario.SINGLE_STREAM), 270) is None
    assert planned_samples(plan_resnet50(mode=Mode.ACCURACY), 270) == 270


def test_a_query_list_beyond_the_memory_is_refused_with_advice() -> None:
    """A stream of 1 ns latencies, or 10^12 samples/s, would be killed minutes later."""
    greedy = replace(plan_resnet50(Scenario.SINGLE_STREAM), expected_latency_ns=1)
    absurd = replace(plan_resnet50(Scenario.OFFLINE), target_qps=1e12)

    for asked in (greedy, absurd):
        with pytest.raises(RunRefused, match=r"GiB are free: shorten the run"):
            check_memory(asked)


def test_logs_beyond_the_disk_are_refused_with_advice(tmp_path: Path) -> None:
    """Answers are logged in hexadecimal digits; the folder need not be there yet."""
    folder, free = tmp_path / "a" / "b", shutil.disk_usage(tmp_path).free
    performance, accuracy = plan_resnet50(), plan_resnet50(mode=Mode.ACCURACY)
    check_disk(folder, accuracy, 4, 1000)
    check_disk(folder, performance, free, 1000)

    with pytest.raises(RunRefused, match=r"MiB are free at .*--mlperf-reports DIR"):
        check_disk(folder, accuracy, free, 1000)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_an_accuracy_run_is_not_refused_for_its_performance_run(
    scenario: Scenario,
) -> None:
    """Accuracy lists the dataset once, whatever rate or latency is expected."""
    made = plan_resnet50(scenario, Mode.ACCURACY)
    asked = replace(made, target_qps=1e12, expected_latency_ns=1)
    check_memory(asked)

    assert planned_samples(asked, ENOUGH) == ENOUGH


def test_a_target_far_above_the_engine_is_what_to_lower() -> None:
    """No time limit would make sense of it."""
    made = replace(
        plan_resnet50(Scenario.OFFLINE, shortening=FAST),
        target_qps=1e6,
        answer_rate=370.0,
    )
    with pytest.raises(RunRefused) as refused:
        check_time(made, 180.0, "as given")
    text = str(refused.value)

    assert "a target_qps of 1e+06 asks for 66,000,000 samples" in text
    assert text.endswith("Lower --mlperf-target-qps to about 370, or omit it")


@pytest.mark.parametrize("limit_s", [None, 200.0, 199.0])
def test_a_run_that_takes_too_long_is_refused_before_it_begins(
    limit_s: float | None,
) -> None:
    """With what is expected and why, and what to type."""
    made = replace(
        plan_resnet50(Scenario.SERVER, shortening=FAST), target_qps=459 / 200
    )
    if limit_s != 199.0:
        check_time(made, limit_s, "tuned so")
        return
    with pytest.raises(RunRefused) as refused:
        check_time(made, limit_s, "tuned so")
    text = str(refused.value)

    assert "about 200 s, but may take 199 s: 459 queries at 2.29/s" in text
    assert "early stopping needs 459 or more (tuned so)" in text
    assert "--mlperf-time-limit 300" in text
