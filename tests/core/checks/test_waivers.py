"""What a failed rule says to try next, and how a shortened run is waived."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.verdict import Status
from tests.support import log_values
from tests.support import logs
from tests.support.judging import FEW_LATE
from tests.support.judging import SLOW
from tests.support.judging import failed
from tests.support.judging import fast
from tests.support.judging import named
from tests.support.judging import verdict

REMEDIES: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "min_duration",
        "Offline",
        {"latencies": logs.rising(66_000, 1_000_000, 330_000_000_000)},
        "raise target_qps from 100 to 200: the engine answered 200 samples/s",
    ),
    (
        "min_duration",
        "SingleStream",
        {"change": {"power_end": log_values.clock(10), "effective_target_qps": 1.0}},
        "lower the expected latency from 1000 ms to 618 ms, the measured 90.0% percent",
    ),
    (
        "latency_bound",
        "Server",
        {"latencies": logs.rising(60_500, 16_000_000, 30_000_000)},
        "no load meets this bound here: the fastest answer took 16.00 ms",
    ),
    (
        "latency_bound",
        "Server",
        {"latencies": SLOW, "change": {"result_completed_samples_per_sec": 50.0}},
        "lower target_qps from 100 to about 45.0: the engine completed 50 queries/s",
    ),
    (
        "latency_bound",
        "Server",
        {"latencies": SLOW},
        "to about 85.0: 60.00% of the queries were late; then a smaller batch",
    ),
    (
        "early_stopping",
        "Server",
        {"latencies": FEW_LATE},
        "too many are late: lower target_qps from 1 to about 0.950: 0.83% of the",
    ),
    (
        "early_stopping",
        "MultiStream",
        {"latencies": logs.rising(600, 10**9, 10**9)},
        "662 are needed, 62 more",
    ),
    (
        "min_sample_count",
        "Offline",
        {"latencies": logs.rising(100, 1_000_000, 660_000_000_000)},
        "set min_query_count to 24,576; Offline reads it as samples",
    ),
]


@pytest.mark.parametrize(
    ("name", "scenario", "story", "expected"),
    REMEDIES,
    ids=[f"{name}-{i}" for i, (name, _, _, _) in enumerate(REMEDIES)],
)
def test_a_remedy_names_the_value_to_try_next(
    tmp_path: Path, name: str, scenario: str, story: dict[str, Any], expected: str
) -> None:
    """What the log shows decides the next value."""
    folder = logs.performance(tmp_path, scenario, **story)

    assert expected in named(verdict(folder, scenario), name).remedy


SHORT = {
    "effective_min_duration_ms": 60_000,
    "generated_query_duration": 60 * 10**9,
    "power_end": log_values.clock(61),
    "result_scheduled_samples_per_sec": 1008.32,
    "result_completed_samples_per_sec": 1008.32,
}


def test_a_shortened_run_is_waived_not_passed(tmp_path: Path) -> None:
    """The rule it is not held to is visible with its reason."""
    folder = logs.performance(tmp_path, "Server", change=SHORT)
    found = verdict(folder, "Server", context=Context(settings=fast("Server", 60)))

    assert found.outcome == "VALID"
    assert [(c.name, c.remedy) for c in found.waived] == [("min_duration", "--fast")]
    assert found.expected_s == 60


def test_the_same_run_without_a_waiver_is_invalid(tmp_path: Path) -> None:
    """A waiver belongs to the suite, never to the log."""
    folder = logs.performance(tmp_path, "Server", change=SHORT)
    alone = Context(waived={"min_duration": "I say so"})

    assert failed(verdict(folder, "Server")) == {"min_duration"}
    assert failed(verdict(folder, "Server", context=alone)) == {"min_duration"}


def test_a_shortened_run_must_be_as_long_as_it_was_asked_to_be(
    tmp_path: Path,
) -> None:
    """Ten of sixty seconds fail, waiver or not."""
    change = {**SHORT, "generated_query_duration": 10 * 10**9}
    folder = logs.performance(tmp_path, "Server", change=change)
    context = Context(settings=fast("Server", 60))
    check = named(verdict(folder, "Server", context=context), "min_duration")

    assert check.status is Status.FAIL
    assert check.required == "at least 60,000 ms"


def test_a_waived_rule_that_holds_anyway_is_passed(tmp_path: Path) -> None:
    """--fast on a run of full length waives nothing."""
    folder = logs.performance(tmp_path, "Server")
    found = verdict(folder, "Server", context=Context(settings=fast("Server", 60)))

    assert found.waived == ()
    assert found.valid


def test_a_waiver_of_another_rule_changes_nothing(tmp_path: Path) -> None:
    """Only what the suite can shorten can be waived; a latency bound cannot."""
    folder = logs.performance(tmp_path, "Server", latencies=SLOW)
    context = Context(settings=fast("Server", 60), waived={"latency_bound": "please"})

    assert named(
        verdict(folder, "Server", context=context), "latency_bound"
    ).status is (Status.FAIL)
