"""Forgeries of a log, each beside the honest one that passes the same check."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Status
from tests.support import logs
from tests.support.judging import SCENARIOS
from tests.support.judging import is_refused
from tests.support.judging import named
from tests.support.judging import verdict

KEY = "generated_query_duration"


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("duration", [-1, 0, -(2**63)])
def test_queries_take_time_to_generate(
    tmp_path: Path, scenario: str, duration: int
) -> None:
    """Accepted until now in every log that was tried."""
    honest = verdict(logs.performance(tmp_path / "honest", scenario), scenario)
    change = {KEY: duration}
    forged = verdict(
        logs.performance(tmp_path / "f", scenario, change=change), scenario
    )

    assert named(honest, "generated_duration").status is Status.PASS
    is_refused(forged, "generated_duration")


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server"])
def test_queries_fill_the_minimum_duration(tmp_path: Path, scenario: str) -> None:
    """LoadGen generates until they do; Offline has one query."""
    change = {KEY: 599_000_000_000}
    short = verdict(logs.performance(tmp_path, scenario, change=change), scenario)

    is_refused(short, "generated_duration")


def test_an_accuracy_run_s_queries_take_time_too(tmp_path: Path) -> None:
    """The check is asked of every mode."""
    kept: Mapping[str, object] = {KEY: 600_000_000_000}
    honest = logs.accuracy(tmp_path / "honest", change=kept)
    forged = logs.accuracy(tmp_path / "forged", change={KEY: -5})
    status = {
        folder.name: named(
            verdict(folder, "Offline", Mode.ACCURACY), "generated_duration"
        ).status
        for folder in (honest, forged)
    }

    assert status == {"honest": Status.PASS, "forged": Status.FAIL}


def test_a_performance_summary_beside_an_accuracy_log_is_of_another_run(
    tmp_path: Path,
) -> None:
    """The summary of an accuracy run holds two counts."""
    honest = logs.accuracy(tmp_path / "accuracy")
    before = verdict(honest, "Offline", Mode.ACCURACY)
    other = logs.performance(tmp_path / "performance", "Offline")
    shutil.copy(other / "mlperf_log_summary.txt", honest)
    after = verdict(honest, "Offline", Mode.ACCURACY)

    assert named(before, "accuracy_summary").status is Status.PASS
    is_refused(after, "accuracy_summary")


@pytest.mark.parametrize("version", ["5.0.15 @ 091d51f041", "2.0 @ 091d51f041"])
def test_a_dropped_count_of_errors_is_missed(tmp_path: Path, version: str) -> None:
    """Also where the version was changed to one that had none: v6.1 has no such."""
    honest = verdict(logs.performance(tmp_path / "honest", "Offline"), "Offline")
    forged = logs.performance(
        tmp_path / "forged",
        "Offline",
        drop=["num_errors"],
        change={"loadgen_version": version},
    )
    found = verdict(forged, "Offline")

    assert named(honest, "errors_counted").status is Status.PASS
    assert not found.valid
    broken = {c.name for c in found.checks if c.status is not Status.PASS}
    assert broken & {"errors_counted", "log"}


def test_a_hash_of_zeros_is_none(tmp_path: Path) -> None:
    """No log has it; the log that was cut cannot be hashed again."""
    folder = logs.accuracy(tmp_path)
    path = folder / "accuracy.txt"
    before = named(verdict(folder, "Offline", Mode.ACCURACY), "accuracy_hash")
    path.write_text(re.sub(r"hash=\w+", "hash=" + 64 * "0", path.read_text("utf-8")))
    after = named(verdict(folder, "Offline", Mode.ACCURACY), "accuracy_hash")

    assert [before.status, after.status] == [Status.PASS, Status.FAIL]
    assert "not all of them 0" in after.required
