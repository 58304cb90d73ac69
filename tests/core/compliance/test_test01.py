"""TEST01: the answers of a performance run, and its speed while it logged them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_mlperf.core.compliance import AuditFinding
from pytest_mlperf.core.compliance import get
from pytest_mlperf.core.compliance.test01 import compare_answers
from pytest_mlperf.core.verdict import Status
from tests.support.answer_logs import numbers
from tests.support.audits import CLASSES
from tests.support.audits import log_answers
from tests.support.audits import log_speed
from tests.support.audits import outcome
from tests.support.audits import verify_run


def of_test01(
    tmp_path: Path, given: Sequence[tuple[int, bytes]], speed: float = 100.0
) -> tuple[AuditFinding, ...]:
    """Return the findings of a TEST01 run of these answers, beside 100 samples/s."""
    before = log_speed(tmp_path / "performance", "Offline", 100.0)
    accuracy = log_answers(tmp_path / "accuracy", CLASSES)
    folder = log_answers(log_speed(tmp_path / "TEST01", "Offline", speed), given)
    return verify_run("TEST01", folder, {"performance": before, "accuracy": accuracy})


def test_test01_passes_on_the_same_answers_and_speed(tmp_path: Path) -> None:
    """Some of the samples, some of them twice, in any order."""
    found = of_test01(tmp_path, [CLASSES[7], CLASSES[3], CLASSES[7]], 95.0)

    assert outcome(found) == {
        "compliance_accuracy": Status.PASS,
        "compliance_performance": Status.PASS,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{ "qsl_idx" : 1, "data" : "00" }\n]\n',
        '[\n{ "qsl_idx" : 1, "data" : "00" }\n',
        '[\n{ "qsl_idx" : "1", "data" : "00" }\n]\n',
        '[\n{ "qsl_idx" : 1, "data" : "0z" }\n]\n',
        '[\n{ "qsl_idx" : 1 }\n]\n',
        "[\n]\n[\n]\n",
    ],
)
def test_damaged_answers_are_an_error_and_no_traceback(
    tmp_path: Path, text: str
) -> None:
    """No list, no end, no sample, no digits, no answer, or two lists."""
    of_test01(tmp_path, CLASSES[:5])
    (tmp_path / "TEST01/mlperf_log_accuracy.json").write_text(text)
    references = {name: tmp_path / name for name in ("performance", "accuracy")}
    found = verify_run("TEST01", tmp_path / "TEST01", references)

    assert outcome(found)["compliance_accuracy"] is Status.ERROR


def test_the_official_files_say_what_the_checks_say(tmp_path: Path) -> None:
    """Line by line as the official scripts print it."""
    of_test01(tmp_path, CLASSES[:5], 95.0)
    folder = tmp_path / "TEST01"

    assert (folder / "verify_accuracy.txt").read_text().splitlines() == [
        "num_acc_log_entries = 40",
        "num_acc_log_duplicate_keys = 0",
        "num_acc_log_data_mismatch = 0",
        "num_perf_log_entries = 5",
        "num_perf_log_qsl_idx_match = 5",
        "num_perf_log_data_mismatch = 0",
        "num_missing_qsl_idxs = 0",
        "TEST PASS",
    ]
    assert (folder / "verify_performance.txt").read_text().splitlines() == [
        "Reference score = 100.0",
        "Test score = 95.0",
        "TEST PASS",
    ]


def test_accuracy_txt_has_the_hash_of_the_whole_log(tmp_path: Path) -> None:
    """The v5.1.1 checker wants the file beside the truncated log."""
    of_test01(tmp_path, CLASSES[:5])
    folder = tmp_path / "TEST01"
    digest = hashlib.sha256((folder / "mlperf_log_accuracy.json").read_bytes())

    assert f"hash={digest.hexdigest()}\n" == (folder / "accuracy.txt").read_text()


def test_what_belongs_into_a_submission_is_there(tmp_path: Path) -> None:
    """A run that passes has exactly the checkers' files, and each exists."""
    of_test01(tmp_path, CLASSES[:5])
    found = dict(get("TEST01").official_files(tmp_path / "TEST01"))

    assert set(found) == {
        "verify_accuracy.txt",
        "verify_performance.txt",
        "performance/run_1/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/accuracy.txt",
    }
    assert all(path.is_file() for path in found.values())


@pytest.mark.parametrize(
    "given",
    [[CLASSES[0], (1, numbers(7))], [], [(99, numbers(1))]],
    ids=["another answer", "no answer", "only unknown samples"],
)
def test_test01_fails_without_proof(
    given: list[tuple[int, bytes]], tmp_path: Path
) -> None:
    """Another class, an empty log, and a log of samples that the other lacks."""
    found = of_test01(tmp_path, given)

    assert outcome(found)["compliance_accuracy"] is not Status.PASS
    assert "TEST FAIL" in (tmp_path / "TEST01" / "verify_accuracy.txt").read_text()


@pytest.mark.parametrize(
    ("after", "expected"),
    [("76.45", Status.PASS), ("75.60", Status.FAIL)],
    ids=["0.01 % off", "1.1 % off"],
)
def test_other_answers_may_be_as_good(
    after: str, expected: Status, tmp_path: Path
) -> None:
    """The accuracy of the logged samples, in both modes, is the way out."""
    folder = tmp_path / "TEST01"
    folder.mkdir()
    (folder / "baseline_accuracy.txt").write_text("accuracy=76.44%, good=1, total=2\n")
    (folder / "compliance_accuracy.txt").write_text(f"accuracy={after}%\n")
    found = of_test01(tmp_path, [CLASSES[0], (1, numbers(7))])

    assert expected is outcome(found)["compliance_accuracy"]
    assert {"accuracy/baseline_accuracy.txt", "accuracy/compliance_accuracy.txt"} <= {
        path for path, _ in get("TEST01").official_files(folder)
    }


@pytest.mark.parametrize(
    ("scenario", "before", "after", "expected"),
    [
        ("Offline", 100.0, 110.0, Status.PASS),
        ("Offline", 100.0, 110.2, Status.FAIL),
        ("Offline", 100.0, 89.9, Status.FAIL),
        ("Server", 50.0, 45.0, Status.PASS),
        ("SingleStream", 200_000, 240_000, Status.PASS),
        ("SingleStream", 200_001, 240_000, Status.FAIL),
        ("MultiStream", 1_600_000, 1_290_000, Status.PASS),
        ("MultiStream", 1_700_000, 1_290_000, Status.FAIL),
    ],
)
def test_test01_allows_ten_percent_and_twenty_to_quick_streams(
    scenario: str, before: float, after: float, expected: Status, tmp_path: Path
) -> None:
    """Both ways; streams of 200 us and 1.6 ms or less get 20 %."""
    references = {
        "performance": log_speed(tmp_path / "performance", scenario, before),
        "accuracy": log_answers(tmp_path / "accuracy", CLASSES),
    }
    folder = log_answers(log_speed(tmp_path / "TEST01", scenario, after), CLASSES[:3])
    round_name = "v5.1" if scenario == "Server" else "v6.1"
    found = verify_run(
        "TEST01", folder, references, scenario=scenario, round_name=round_name
    )

    assert expected is outcome(found)["compliance_performance"]


def test_a_second_answer_is_held_against_the_first_of_its_run(tmp_path: Path) -> None:
    """The official script overwrites a sample's answer with the latest."""
    first, second = (3, numbers(900)), (3, numbers(901))
    accuracy = log_answers(tmp_path / "accuracy", [first])
    run = log_answers(tmp_path / "run", [first, second, second])
    found = compare_answers(accuracy, run)

    assert (found.matched, found.different) == (3, 1)


def test_bytes_are_compared_where_answers_are_no_int32(tmp_path: Path) -> None:
    """Answers of three bytes: only the first one counts, as in the script."""
    accuracy = log_answers(tmp_path / "accuracy", [(0, b"abc"), (1, b"xyz")])
    run = log_answers(tmp_path / "run", [(0, b"axx"), (1, b"Xyz")])
    found = compare_answers(accuracy, run)

    assert (found.element, found.different, found.further) == ("byte", 1, 1)
