"""What a found run's log tells of itself before it is judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core.judge import identify
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Scenario
from tests.support import logs


@pytest.mark.parametrize(
    ("scenario", "change", "expected"),
    [
        ("Offline", {"effective_target_qps": 100.0}, 660.0),
        ("Offline", {"effective_target_qps": 50.0}, 1320.0),
        ("Server", {"effective_target_qps": 100.0}, 600.0),
        (
            "Server",
            {"effective_target_qps": 100.0, "effective_min_query_count": 270_336},
            2703.36,
        ),
        ("SingleStream", {"effective_target_qps": 1000.0}, 600.0),
        (
            "SingleStream",
            {"effective_target_qps": 1.0, "effective_min_query_count": 1024},
            1024.0,
        ),
        (
            "MultiStream",
            {"effective_target_qps": 0.5, "effective_min_query_count": 662},
            1324.0,
        ),
        ("Server", {"effective_target_qps": 0}, None),
    ],
)
def test_a_log_tells_how_long_its_run_should_have_taken(
    tmp_path: Path, scenario: str, change: dict[str, object], expected: float | None
) -> None:
    """From its own settings: duration, count, and the rate that was expected."""
    folder = logs.performance(tmp_path, scenario, change=change)

    assert (
        identify.compute_expected_s(Log.read(folder), Scenario.parse(scenario))
        == expected
    )


def test_a_log_without_its_settings_tells_no_time(tmp_path: Path) -> None:
    """Nothing is guessed where the log of an old LoadGen lacks a line."""
    log = Log.read(logs.performance(tmp_path, "Server"))
    values = {**log.values}
    del values["effective_target_qps"]
    short = replace(log, values=values)

    assert identify.compute_expected_s(short, Scenario.SERVER) is None
