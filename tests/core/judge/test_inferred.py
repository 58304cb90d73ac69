"""Results of one scenario that a run of another stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.judge.identify import identify
from pytest_mlperf.core.logs import discover
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support.judging import failed
from tests.support.judging import named


def inferred(
    root: Path, ran: str, wanted: str, category: str = "edge", **story: Any
) -> Verdict:
    """Judge a run of one scenario in the folder of another's, of an edge system."""
    folder = root / "resnet50" / wanted / "performance" / "run_1"
    logs.performance(folder, ran, **story)
    (place,) = discover.find_runs(folder)
    return identify(replace(place, category=category))


@pytest.mark.parametrize(
    ("ran", "wanted", "formula", "unit", "key"),
    [
        ("SingleStream", "MultiStream", lambda ns: 8 * ns / 1e6, "ms",
         "early_stopping_latency_ms"),
        ("SingleStream", "Offline", lambda qps: qps, "samples/s",
         "result_qps_without_loadgen_overhead"),
        ("MultiStream", "Offline", lambda ns: 8 / (ns / 1e9), "samples/s",
         "result_mean_query_latency_ns"),
    ],
)  # fmt: skip
def test_the_figure_is_computed_by_the_official_formula(
    tmp_path: Path,
    ran: str,
    wanted: str,
    formula: Callable[[float], float],
    unit: str,
    key: str,
) -> None:
    """Value, key and unit stand together, and the verdict says inferred."""
    verdict = inferred(tmp_path, ran, wanted)
    logged = Log.read(Path(verdict.folder)).number(key)

    assert failed(verdict) == set()
    assert (verdict.scenario, verdict.inferred) == (wanted, ran)
    assert verdict.metric is not None
    assert formula(logged) == pytest.approx(verdict.metric.value, rel=1e-12)
    assert verdict.metric.value > 0
    assert (verdict.metric.key, verdict.metric.unit) == (key, unit)
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert f"inferred from {ran}" in verdict.explain()


def test_an_inferred_run_keeps_the_limits_of_the_scenario_that_ran(
    tmp_path: Path,
) -> None:
    """63 SingleStream queries are too few, whatever Offline would say of them."""
    short = logs.rising(63, 600_000_000, 620_000_000)
    verdict = inferred(tmp_path, "SingleStream", "Offline", latencies=short)

    assert verdict.outcome == "INVALID"
    assert {"early_stopping", "min_query_count"} <= failed(verdict)


def test_multistream_without_an_estimate_is_invalid(tmp_path: Path) -> None:
    """LoadGen writes 0 below 662 queries, and the remedy says so."""
    few = logs.rising(500, 1_300_000_000, 1_320_000_000)
    verdict = inferred(tmp_path, "SingleStream", "MultiStream", latencies=few)

    assert failed(verdict) == {"inferred_metric"}
    assert "662 queries" in named(verdict, "inferred_metric").remedy


@pytest.mark.parametrize("mean", [0, -5, "fast", 1.5, None])
def test_a_figure_that_cannot_be_computed_is_an_error(
    tmp_path: Path, mean: object
) -> None:
    """Neither a crash nor VALID."""
    change = {"result_mean_query_latency_ns": mean}
    verdict = inferred(tmp_path, "MultiStream", "Offline", change=change)

    assert verdict.outcome == "ERROR"
    assert verdict.metric is None


@pytest.mark.parametrize(
    ("ran", "wanted"),
    [
        ("MultiStream", "SingleStream"),
        ("Offline", "SingleStream"),
        ("Offline", "MultiStream"),
        ("Server", "Offline"),
        ("Offline", "Server"),
        ("SingleStream", "Server"),
    ],
)
def test_other_pairs_fail_by_the_scenario_alone(
    tmp_path: Path, ran: str, wanted: str
) -> None:
    """The wrong scenario is INVALID with a remedy, not a list of missing keys."""
    verdict = inferred(tmp_path, ran, wanted)

    assert failed(verdict) == {"scenario"}
    assert wanted == verdict.scenario
    assert (verdict.inferred, verdict.metric) == ("", None)
    assert f"judge it as {ran}" in named(verdict, "scenario").remedy


@pytest.mark.parametrize("category", ["edge", "datacenter,edge", ""])
def test_edge_and_unknown_systems_may_infer(tmp_path: Path, category: str) -> None:
    """Where no system description is found, the check says what it assumed."""
    verdict = inferred(tmp_path, "SingleStream", "Offline", category)
    check = named(verdict, "scenario")

    assert verdict.outcome == "VALID"
    assert ("not known" in check.required) is (not category)


def test_a_datacenter_system_may_not_infer(tmp_path: Path) -> None:
    """Inference is for edge systems."""
    verdict = inferred(tmp_path, "SingleStream", "Offline", "datacenter")

    assert verdict.outcome == "INVALID"
    assert "only edge systems" in named(verdict, "scenario").remedy


def test_a_server_log_is_an_interactive_one_without_inference(
    tmp_path: Path,
) -> None:
    """Interactive drives LoadGen as Server, so the scenario check passes."""
    folder = tmp_path / "llama3.1-8b" / "Interactive" / "performance" / "run_1"
    logs.performance(folder, "Server")
    (place,) = discover.find_runs(folder)
    verdict = identify(place)

    assert Scenario.INTERACTIVE.value == verdict.scenario
    assert named(verdict, "scenario").status is Status.PASS
