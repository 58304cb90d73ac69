"""TEST04: repeated samples are no faster than different ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.verdict import Status
from tests.support import logs
from tests.support.audits import log_speed
from tests.support.audits import outcome
from tests.support.audits import verify_run

FASTER = "less than 110"
QUICKER = "less than 120"


@pytest.mark.parametrize(
    ("scenario", "before", "after", "required", "expected"),
    [
        ("Offline", 100.0, 20.0, FASTER, Status.PASS),
        ("Offline", 100.0, 109.9, FASTER, Status.PASS),
        ("Offline", 100.0, 110.1, FASTER, Status.FAIL),
        ("SingleStream", 10_000_000, 90_000_000, QUICKER, Status.PASS),
        ("SingleStream", 10_000_000, 8_400_000, QUICKER, Status.PASS),
        ("SingleStream", 10_000_000, 8_300_000, QUICKER, Status.FAIL),
    ],
)
def test_test04_is_one_sided(
    scenario: str,
    before: float,
    after: float,
    required: str,
    expected: Status,
    tmp_path: Path,
) -> None:
    """Slower is fine; 10 % faster is a cache, 20 % in a stream by the script's rule."""
    before_folder = log_speed(tmp_path / "performance", scenario, before)
    folder = log_speed(tmp_path / "TEST04", scenario, after)
    references = {"performance": before_folder}
    found = verify_run("TEST04", folder, references, scenario=scenario)

    assert outcome(found) == {"compliance_performance": expected}
    assert [check.required for one in found for check in one.checks] == [required]
    passes = expected is Status.PASS
    text = (folder / "verify_performance.txt").read_text()
    assert passes is ("TEST PASS" in text.splitlines())


def test_an_invalid_run_is_not_compared(tmp_path: Path) -> None:
    """Its figure may be anything."""
    before = log_speed(tmp_path / "performance", "Offline", 100.0)
    folder = log_speed(tmp_path / "TEST04", "Offline", 100.0, result_validity="INVALID")
    found = verify_run("TEST04", folder, {"performance": before})

    assert outcome(found) == {"compliance_performance": Status.FAIL}
    assert (folder / "verify_performance.txt").read_text() == (
        "TEST FAIL: the audited run is INVALID\n"
    )


def test_a_latency_of_nothing_is_an_error(tmp_path: Path) -> None:
    """TEST04 of a stream compares rates: no division by zero."""
    before = log_speed(tmp_path / "performance", "SingleStream", 10_000_000)
    folder = log_speed(tmp_path / "TEST04", "SingleStream", 0)
    references = {"performance": before}
    found = verify_run("TEST04", folder, references, scenario="SingleStream")

    assert outcome(found) == {"compliance_performance": Status.ERROR}
    (check,) = found[0].checks
    assert (check.found, check.required) == ("early_stopping_latency_ss = 0", "above 0")


def test_a_damaged_log_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    """The official file then says FAIL."""
    before = log_speed(tmp_path / "performance", "Offline", 100.0)
    folder = tmp_path / "TEST04"
    folder.mkdir()
    (folder / "mlperf_log_detail.txt").write_text("not a log\n")
    found = verify_run("TEST04", folder, {"performance": before})

    assert list(outcome(found).values()) == [Status.ERROR]
    assert (folder / "verify_performance.txt").read_text().startswith("TEST FAIL")


V2_UNIQUE = {"effective_performance_issue_unique": True}
V2_SAME = {"effective_performance_issue_same": True}


@pytest.mark.parametrize(
    ("after", "expected"), [(50.0, Status.PASS), (111.0, Status.FAIL)]
)
def test_test04_b_of_v2_is_held_against_test04_a(
    after: float, expected: Status, tmp_path: Path
) -> None:
    """One sample over and over may be slower than all samples once, not faster."""
    unique = log_speed(tmp_path / "TEST04-A", "Offline", 100.0, **V2_UNIQUE)
    same = log_speed(tmp_path / "TEST04-B", "Offline", after, **V2_SAME)
    found = verify_run("TEST04-B", same, {"TEST04-A": unique}, round_name="v2.0")

    assert outcome(found) == {"compliance_performance": expected}


@pytest.mark.parametrize(
    ("after", "expected", "notes"),
    [
        (12_000_000, Status.PASS, ["Note: TEST04-B is significantly slower"]),
        (10_900_000, Status.PASS, []),
        (9_100_000, Status.PASS, []),
        (8_900_000, Status.FAIL, []),
    ],
)
def test_test04_b_of_a_stream_has_no_shorter_latency(
    after: int, expected: Status, notes: list[str], tmp_path: Path
) -> None:
    """By a tenth; a longer one is a note."""
    key = "result_90.00_percentile_latency_ns"
    folders = {"TEST04-A": 10_000_000, "TEST04-B": after}
    for (name, value), own in zip(folders.items(), (V2_UNIQUE, V2_SAME), strict=True):
        change: dict[str, object] = {key: value, **own}
        logs.performance(tmp_path / name, "SingleStream", change=change)
    found = verify_run(
        "TEST04-B", tmp_path / "TEST04-B", {"TEST04-A": tmp_path / "TEST04-A"},
        scenario="SingleStream", round_name="v2.0",
    )  # fmt: skip
    lines = (tmp_path / "TEST04-B/verify_performance.txt").read_text().splitlines()

    assert outcome(found) == {"compliance_performance": expected}
    assert [line.partition(" than")[0] for line in lines if "Note" in line] == notes
