"""Equal issue before LoadGen logged it: proved by the counts, or not known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.logs.equal_issue import find_equal_issue
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import dialects
from tests.support import log_values
from tests.support import logs
from tests.support.judging import failed
from tests.support.judging import named

CASES = 43
"""Of 3d-unet, all in memory."""
OFFLINE = logs.rising(CASES * 100 + 10, 1_000_000, 660_000_000_000)
FILLED = CASES * 101
KEY = "effective_sample_concatenate_permutation"
DATASET = {
    "qsl_reported_total_count": CASES,
    "qsl_reported_performance_count": CASES,
    "effective_performance_sample_count": CASES,
}


def rate(count: int) -> float:
    return log_values.six(count * 1e9 / OFFLINE[-1])


def offline(
    folder: Path, name: str, change: Mapping[str, object], count: int | None = None
) -> Path:
    """Write an Offline run of 3d-unet that a round's LoadGen issued so many samples."""
    own: dict[str, Any] = {**DATASET, **change}
    own["result_samples_per_second"] = rate(count or len(OFFLINE))
    return dialects.performance(
        folder, name, "Offline", own, latencies=OFFLINE, loaded=CASES
    )


def judge(folder: Path, name: str, scenario: str = "Offline") -> Verdict:
    return dialects.judge_run(folder, name, scenario, "3d-unet", "99")


@pytest.mark.parametrize("name", ["v2.0", "v3.0", "v4.1"])
def test_a_rate_of_whole_passes_proves_equal_issue(tmp_path: Path, name: str) -> None:
    """LoadGen logged the count without what it added, and the rate with it."""
    lower = {"effective_samples_per_query": len(OFFLINE)}
    folder = offline(tmp_path, name, lower, FILLED)
    found = judge(folder, name)

    assert find_equal_issue(Log.read(folder)) is True
    assert named(found, "issue_modes").found == "equal issue, by the counts"
    # So small a run has too few samples for the rounds before v4.0.
    assert failed(found) <= {"min_sample_count"}, found.explain()


@pytest.mark.parametrize("name", ["v2.0", "v3.0", "v4.1"])
def test_a_rate_of_what_was_asked_for_proves_that_there_was_none(
    tmp_path: Path, name: str
) -> None:
    """Waived, with the reason: the rounds accepted it, because nobody could look."""
    folder = offline(tmp_path, name, {})
    check = named(judge(folder, name), "issue_modes")

    assert find_equal_issue(Log.read(folder)) is False
    assert check.status is Status.WAIVED
    assert check.found == "no equal issue, by the counts"
    assert check.remedy.startswith(f"{name} accepted such results")


def test_a_rate_of_neither_is_a_contradiction(tmp_path: Path) -> None:
    """Half a pass was never issued."""
    folder = offline(tmp_path, "v4.1", {}, FILLED - CASES // 2)
    found = judge(folder, "v4.1")

    assert find_equal_issue(Log.read(folder)) is None
    assert failed(found) == {"metric_present"}


def test_whole_passes_that_were_asked_for_prove_nothing(tmp_path: Path) -> None:
    """The third answer, with the LoadGen that does not say."""
    whole = logs.rising(CASES * 600, 1_000_000, 660_000_000_000)
    folder = dialects.performance(
        tmp_path, "v3.0", "Offline", DATASET, latencies=whole, loaded=CASES
    )
    found = judge(folder, "v3.0")

    assert find_equal_issue(Log.read(folder)) is None
    assert found.outcome == "VALID", found.explain()
    assert named(found, "issue_modes").found == (
        "equal issue not logged by LoadGen 3.0 of 2023-02-12"
    )


@pytest.mark.parametrize(("made", "equal"), [(CASES, True), (1, False)])
def test_one_query_a_sample_tells_where_whole_passes_were_asked_for(
    tmp_path: Path, made: int, equal: bool
) -> None:
    """LoadGen from 357ccefc to 5.0.5 generated them, and issued one."""
    whole = logs.rising(CASES * 600, 1_000_000, 660_000_000_000)
    change = {**DATASET, "generated_query_count": made}
    folder = dialects.performance(
        tmp_path, "v4.1", "Offline", change, latencies=whole, loaded=CASES
    )
    found = judge(folder, "v4.1")

    assert find_equal_issue(Log.read(folder)) is equal
    assert found.outcome == "VALID", found.explain()
    assert (named(found, "issue_modes").status is Status.PASS) is equal


def test_more_generated_queries_are_a_contradiction_since_5_0_6(
    tmp_path: Path,
) -> None:
    """1f73d4c2 ended that."""
    change = {**DATASET, "generated_query_count": CASES, KEY: True}
    folder = offline(tmp_path, "v5.1", change, len(OFFLINE))

    assert "generated_queries" in failed(judge(folder, "v5.1"))


@pytest.mark.parametrize("name", ["v4.1", "v2.0"])
@pytest.mark.parametrize(
    ("least", "equal", "valid"), [(2021, True, True), (1024, False, False)]
)
def test_a_streams_raised_count_proves_equal_issue(
    tmp_path: Path, name: str, least: int, equal: bool, valid: bool
) -> None:
    """min_query_count is raised to whole passes over twice the expected queries."""
    taken = logs.rising(2050, 600_000_000, 620_000_000)
    change = {
        **DATASET,
        "effective_min_query_count": least,
        "requested_min_query_count": 1024,
        "effective_min_sample_count": least,
    }
    folder = dialects.performance(
        tmp_path, name, "SingleStream", change, latencies=taken, loaded=CASES
    )
    found = judge(folder, name, "SingleStream")

    assert find_equal_issue(Log.read(folder)) is equal
    assert (found.outcome == "VALID") is valid, found.explain()
    assert valid or failed(found) == {"issue_modes"}


def test_a_streams_count_of_no_whole_passes_is_a_contradiction(
    tmp_path: Path,
) -> None:
    """LoadGen raises it to a multiple of the set, and no further."""
    taken = logs.rising(2100, 600_000_000, 620_000_000)
    for number, least in enumerate((2020, 2021 + CASES * 3)):
        change = {
            **DATASET,
            "effective_min_query_count": least,
            "requested_min_query_count": 1024,
            "effective_min_sample_count": least,
        }
        folder = dialects.performance(
            tmp_path / str(number),
            "v4.1",
            "SingleStream",
            change,
            latencies=taken,
            loaded=CASES,
        )

        assert "requested_settings" in failed(judge(folder, "v4.1", "SingleStream"))


def test_what_a_later_loadgen_logs_is_not_weighed(tmp_path: Path) -> None:
    """The flag decides where it is there, and no round excuses a false one."""
    folder = offline(tmp_path, "v5.1", {KEY: False})
    check = named(judge(folder, "v5.1"), "issue_modes")

    assert check.status is Status.FAIL
    assert check.found == "no equal issue"
