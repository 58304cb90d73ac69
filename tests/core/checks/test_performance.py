"""Every rule with a log that passes and one that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import log_values
from tests.support import logs
from tests.support.judging import FEW_LATE
from tests.support.judging import SLOW
from tests.support.judging import failed
from tests.support.judging import fast
from tests.support.judging import is_refused
from tests.support.judging import named
from tests.support.judging import verdict


@pytest.mark.parametrize(
    ("scenario", "key", "unit", "count"),
    [
        ("SingleStream", "early_stopping_latency_ss", "ms", 25),
        ("MultiStream", "early_stopping_latency_ms", "ms", 25),
        ("Server", "result_completed_samples_per_sec", "queries/s", 27),
        ("Offline", "result_samples_per_second", "samples/s", 22),
    ],
)
def test_a_run_by_the_rules_is_valid(
    tmp_path: Path, scenario: str, key: str, unit: str, count: int
) -> None:
    """Every rule passes, and figure, key and unit stand together."""
    found = verdict(logs.performance(tmp_path, scenario), scenario)

    assert failed(found) == set()
    assert found.outcome == "VALID"
    assert len(found.checks) == count
    assert found.metric is not None
    assert (found.metric.key, found.metric.unit) == (key, unit)
    assert found.actual_s is not None
    assert found.actual_s >= 600
    assert Verdict.from_json(found.to_json()) == found


def test_a_server_verdict_holds_bound_and_percentile(tmp_path: Path) -> None:
    """The table needs the limit and what was measured at its percentile."""
    found = verdict(logs.performance(tmp_path, "Server"), "Server")

    assert found.limit is not None
    assert found.at_percentile is not None
    assert (found.limit.value, found.limit.unit) == (15.0, "ms")
    assert found.percentile == 0.99
    assert 11.9 < found.at_percentile.value < 12.0


BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("loadgen_validity", "Offline", {"change": {"result_min_duration_met": False}}),
    ("loadgen_validity", "Server", {"change": {"result_perf_constraints_met": False}}),
    ("min_duration", "Server", {"change": {"effective_min_duration_ms": 60_000}}),
    ("min_duration", "Server", {"change": {"generated_query_duration": 599 * 10**9}}),
    ("min_duration", "SingleStream", {"change": {"power_end": log_values.clock(590)}}),
    ("min_duration", "Offline", {"change": {"power_end": log_values.clock(90)}}),
    (
        "min_duration",
        "Offline",
        {"latencies": logs.rising(66_000, 1_000_000, 599_000_000_000)},
    ),
    ("min_query_count", "SingleStream", {"change": {"result_query_count": 63}}),
    ("min_query_count", "MultiStream", {"change": {"result_query_count": 661}}),
    (
        "min_sample_count",
        "Offline",
        {"latencies": logs.rising(24_575, 1_000_000, 660_000_000_000)},
    ),
    ("early_stopping", "Server", {"latencies": FEW_LATE}),
    ("early_stopping", "Server", {"change": {"early_stopping_met": False}}),
    (
        "early_stopping",
        "Server",
        {"change": {"result_overlatency_query_count": -1}},
    ),
    (
        "early_stopping",
        "SingleStream",
        {"change": {"early_stopping_result": " * Would discard 3 highest latency"}},
    ),
    ("latency_bound", "Server", {"latencies": SLOW}),
    ("latency_bound", "Server", {"latencies": SLOW, "target_ns": 40_000_000}),
    ("target_latency_setting", "Server", {"target_ns": 15_000_001}),
    ("target_latency_setting", "Server", {"target_ns": 0}),
    (
        "target_percentile",
        "MultiStream",
        {"change": {"effective_target_latency_percentile": 0.9}},
    ),
    (
        "samples_per_query",
        "MultiStream",
        {"change": {"generated_samples_per_query": 4}},
    ),
    ("seeds", "Offline", {"seeds": "v6.0"}),
    ("seeds", "Offline", {"change": {"effective_schedule_rng_seed": 0}}),
    (
        "test_mode",
        "Offline",
        {"change": {"effective_test_mode": "FindPeakPerformance"}},
    ),
    (
        "scenario",
        "Offline",
        {"change": {"effective_scenario": "Server"}, "mirror": False},
    ),
    (
        "performance_sample_count",
        "Server",
        {"change": {"effective_performance_sample_count": 1023}},
    ),
    ("performance_sample_count", "Server", {"change": {"loaded_qsl_set": [1, 2, 3]}}),
    (
        "issue_modes",
        "Server",
        {"change": {"effective_performance_issue_same": True}},
    ),
    (
        "issue_modes",
        "Server",
        {"change": {"effective_performance_issue_unique": True}},
    ),
    ("no_errors", "Server", {"errors": ["Ending early: Max query count reached."]}),
    ("no_errors", "Server", {"change": {"num_errors": 2}}),
    ("metric_present", "SingleStream", {"change": {"early_stopping_latency_ss": 0}}),
    ("metric_present", "SingleStream", {"change": {"early_stopping_latency_ss": 5}}),
    ("metric_present", "Offline", {"change": {"result_samples_per_second": 101.0}}),
    (
        "metric_present",
        "Server",
        {"change": {"result_completed_samples_per_sec": 200.0}},
    ),
    (
        "metric_present",
        "Server",
        {"change": {"result_scheduled_samples_per_sec": 200.0}},
    ),
    ("metric_present", "Offline", {"change": {"result_min_latency_ns": 10**15}}),
    ("token_latencies", "Server", {"tokens": log_values.Tokens()}),
    (
        "loadgen_unmodified",
        "Server",
        {"change": {"loadgen_git_status_message": " M results.cc"}},
    ),
]


@pytest.mark.parametrize(
    ("name", "scenario", "story"),
    BROKEN,
    ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(BROKEN)],
)
def test_a_broken_rule_fails_and_says_what_to_do(
    tmp_path: Path, name: str, scenario: str, story: dict[str, Any]
) -> None:
    """Found, required, place and remedy are all there."""
    found = verdict(logs.performance(tmp_path, scenario, **story), scenario)

    is_refused(found, name)
    assert found.outcome != "VALID"


def test_equal_issue_is_wanted_where_the_round_wants_it(tmp_path: Path) -> None:
    """R-GAT needs it; the same log with it passes that check."""
    off = logs.performance(tmp_path / "off", "Offline")
    change = {"effective_sample_concatenate_permutation": True}
    on = logs.performance(tmp_path / "on", "Offline", change=change)

    bad = named(verdict(off, "Offline", name="rgat"), "issue_modes")
    good = named(verdict(on, "Offline", name="rgat"), "issue_modes")
    assert (bad.status, good.status) == (Status.FAIL, Status.PASS)


def test_an_unreadable_log_cannot_be_judged(tmp_path: Path) -> None:
    """One check in error, and the whole verdict is one."""
    found = verdict(tmp_path, "Server")

    assert found.outcome == "ERROR"
    assert [check.name for check in found.checks] == ["log"]
    assert "no such file" in found.checks[0].found


def test_a_value_that_cannot_be_is_an_error_of_its_check(tmp_path: Path) -> None:
    """The other checks are judged all the same."""
    change = {"power_end": "yesterday"}
    found = verdict(
        logs.performance(tmp_path, "SingleStream", change=change), "SingleStream"
    )

    assert found.outcome == "ERROR"
    assert named(found, "wall_time").status is Status.ERROR
    assert named(found, "seeds").status is Status.PASS


def test_a_value_of_wrong_type_makes_the_log_unreadable(tmp_path: Path) -> None:
    """Known keys have values of LoadGen's types."""
    change = {"result_query_count": "many"}
    found = verdict(
        logs.performance(tmp_path, "SingleStream", change=change), "SingleStream"
    )

    assert found.outcome == "ERROR"
    assert "result_query_count = many" in named(found, "log").found


AUDIT = "Found Audit Config file (audit.config). Overriding TestSettings"


def test_an_audit_config_without_a_trace_fails(tmp_path: Path) -> None:
    """A stray one may have changed anything; one that only sampled answers shows it."""
    stray = logs.performance(tmp_path / "stray", "Server", warnings=[AUDIT])
    change = {"effective_accuracy_log_sampling_target": 256}
    sampled = logs.performance(
        tmp_path / "sampled", "Server", warnings=[AUDIT], change=change
    )
    ours = Context(settings=fast("Server", 600))

    assert named(verdict(stray, "Server"), "no_audit_config").status is Status.FAIL
    assert verdict(sampled, "Server").outcome == "VALID"
    assert "no_audit_config" in failed(verdict(sampled, "Server", context=ours))


def test_a_stricter_bound_than_the_rounds_is_legal(tmp_path: Path) -> None:
    """LoadGen may be asked for more than the round does."""
    folder = logs.performance(tmp_path, "Server", target_ns=13_000_000)

    assert verdict(folder, "Server").outcome == "VALID"


KEYS = sorted(
    json.loads(line.removeprefix(":::MLLOG "))["key"]
    for line in (
        logs.line(key, value)
        for key, value in (
            log_values.asked("Server", SLOW, 1) | log_values.results("Server", SLOW, 1)
        ).items()
    )
)
ODD = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
)


@given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_makes_the_judge_raise(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """Whatever a log says, there is a verdict, and it has checks."""
    folder = logs.performance(tmp_path, "Server", latencies=FEW_LATE, change=change)
    found = verdict(folder, "Server")

    assert found.checks
    assert Verdict.from_json(found.to_json()) == found
