"""The judge beside the real LoadGen: runs of a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Status
from tests.support import bare_loadgen
from tests.support import logs
from tests.support.judging import SCENARIOS
from tests.support.judging import failed
from tests.support.judging import fast
from tests.support.judging import named
from tests.support.judging import verdict

PAUSE_S = 0.007
"""Longer, and answers may be late for Server's 15 ms."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One real performance run of a second for each scenario."""
    base = tmp_path_factory.mktemp("runs")
    return {
        name: bare_loadgen.run(base / name, name, "PerformanceOnly")
        for name in SCENARIOS
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_real_short_run_is_valid_but_for_its_length(
    runs: dict[str, Path], scenario: str
) -> None:
    """The judge agrees with LoadGen, and length alone is waived."""
    context = Context(settings=fast(scenario, 1))
    found = verdict(runs[scenario], scenario, context=context)
    without = failed(verdict(runs[scenario], scenario))

    assert found.outcome == "VALID", found.explain()
    assert without <= {"min_duration", "min_sample_count"}
    assert "min_duration" in without


def kinds(folder: Path) -> dict[str, str]:
    """Return key -> kind of value in a detail log."""
    found = {}
    for line in (folder / "mlperf_log_detail.txt").read_text().splitlines():
        record = json.loads(line.removeprefix(":::MLLOG "))
        kind = type(record["value"]).__name__
        found[record["key"]] = "number" if kind in ("int", "float") else kind
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_builder_writes_what_loadgen_writes(
    runs: dict[str, Path], tmp_path: Path, scenario: str
) -> None:
    """Every key of a built log is one of a real log, with a value of its type."""
    built = logs.performance(tmp_path, scenario)
    real, made = kinds(runs[scenario]), kinds(built)

    assert made == {key: real.get(key) for key in made}


def test_a_real_run_that_ran_out_of_queries_is_invalid(tmp_path: Path) -> None:
    """LoadGen ends early with an error; the remedy is the measured latency."""
    folder = bare_loadgen.run(
        tmp_path,
        "SingleStream",
        "PerformanceOnly",
        single_stream_expected_latency_ns=1_000_000_000,
    )
    context = Context(settings=fast("SingleStream", 1))
    found = verdict(folder, "SingleStream", context=context)

    assert failed(found) >= {"loadgen_validity", "min_duration", "no_errors"}
    assert "lower the expected latency from 1000 ms" in (
        named(found, "min_duration").remedy
    )


def test_a_real_run_too_short_for_its_percentile_is_invalid(tmp_path: Path) -> None:
    """100 queries within the bound are fewer than the 459 that prove it."""
    folder = bare_loadgen.run_in_time(tmp_path, "Server", server_target_qps=100.0)
    context = Context(settings=fast("Server", 1))
    found = verdict(folder, "Server", context=context)
    check = named(found, "early_stopping")

    assert check.status is Status.FAIL
    assert "459 are needed" in check.remedy


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_real_accuracy_run_answers_the_whole_dataset(
    tmp_path: Path, scenario: str
) -> None:
    """MultiStream's doubled samples are no fault."""
    folder = bare_loadgen.run(
        tmp_path, scenario, "AccuracyOnly", server_target_qps=5000.0
    )
    logs.score(folder, "accuracy=80.0%, good=1, total=1024")
    context = Context(reference={"acc": 80.0}, dataset_total=1024)
    found = verdict(folder, scenario, Mode.ACCURACY, context)

    assert found.outcome == "VALID", found.explain()
    assert [check.name for check in found.waived] == ["dataset_size"]
