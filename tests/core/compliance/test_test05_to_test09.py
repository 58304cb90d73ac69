"""TEST05 to TEST09: other seeds, and what LLMs answer."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.core.compliance.test06 import count_trailing
from pytest_mlperf.core.compliance.test08 import compute_entropy
from pytest_mlperf.core.verdict import Status
from tests.support.answer_logs import Record
from tests.support.answer_logs import log_of
from tests.support.answer_logs import numbers
from tests.support.answer_logs import spoken
from tests.support.audits import CLASSES
from tests.support.audits import log_answers
from tests.support.audits import log_speed
from tests.support.audits import outcome
from tests.support.audits import verify_run


@pytest.mark.parametrize(
    ("after", "expected"), [(104.9, Status.PASS), (105.1, Status.FAIL)]
)
def test_test05_of_v2_allows_five_percent(
    after: float, expected: Status, tmp_path: Path
) -> None:
    """Other seeds give the same performance."""
    before = log_speed(tmp_path / "performance", "Offline", 100.0)
    folder = log_speed(tmp_path / "TEST05", "Offline", after)
    found = verify_run("TEST05", folder, {"performance": before}, round_name="v2.0")

    assert outcome(found) == {"compliance_performance": expected}


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (spoken(9, 8, 2), set()),
        (spoken(9, 8, 7), set()),
        (spoken(2), set()),
        (spoken(9, 8, first=8), {"compliance_first_token"}),
        (spoken(9, 2, 2), {"compliance_single_eos"}),
        (spoken(9, 8, count=3), {"compliance_token_count"}),
    ],
)
def test_test06_asks_for_consistent_tokens(
    answer: Record, failing: set[str], tmp_path: Path
) -> None:
    """First token, at most one end of sequence, as many tokens as were told."""
    folder = log_of(tmp_path, [spoken(4, 4), answer])
    found = verify_run("TEST06", folder, {}, "llama3.1-8b", scenario="Server")

    bad = {name for name, status in outcome(found).items() if status is Status.FAIL}
    assert failing == bad
    text = (folder / "verify_accuracy.txt").read_text()
    assert (not failing) is ("TEST06 verification complete" in text)


def test_offline_reports_no_first_token(tmp_path: Path) -> None:
    """The official line then says Skipped."""
    record = {"index": 1, "data": numbers(4, 5), "token_count": 2}
    verify_run("TEST06", log_of(tmp_path, [record]), {}, "llama3.1-8b")

    assert (tmp_path / "verify_accuracy.txt").read_text().splitlines() == [
        "First token check pass: Skipped",
        "EOS check pass: True",
        "Sample length check pass: True",
        "TEST06 verification complete",
    ]


@pytest.mark.parametrize(
    ("score", "expected"), [("60.7", Status.PASS), ("60.6", Status.FAIL)]
)
def test_test07_asks_for_a_score(score: str, expected: Status, tmp_path: Path) -> None:
    """What the scorer printed stands above the verdict."""
    log_answers(tmp_path, CLASSES)
    (tmp_path / "compliance_accuracy.txt").write_text(f"{{'exact_match': {score}}}\n")
    where = {"round_name": "v6.0"}
    found = verify_run("TEST07", tmp_path, {}, "gpt-oss-120b", **where)

    assert outcome(found) == {"compliance_accuracy": expected}
    text = (tmp_path / "verify_accuracy.txt").read_text()
    assert text.startswith(f"{{'exact_match': {score}}}\n")
    assert f"Accuracy score: {score}\n" in text
    assert (expected is Status.PASS) is ("TEST PASS" in text.splitlines())


def test_test07_fails_without_a_score_in_the_verifier_s_words(tmp_path: Path) -> None:
    """The scorer ended early: its file says nothing that can be read."""
    log_answers(tmp_path, CLASSES)
    (tmp_path / "compliance_accuracy.txt").write_text("Killed\n")
    found = verify_run("TEST07", tmp_path, {}, "gpt-oss-120b", round_name="v6.0")
    lines = (tmp_path / "verify_accuracy.txt").read_text().splitlines()

    assert outcome(found) == {"compliance_accuracy": Status.FAIL}
    assert "Error: Could not parse accuracy score" in lines
    assert "TEST FAIL" in lines


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize(
    ("prediction", "query", "expected"),
    [
        (0.7, 3, Status.PASS),
        (0.7002, 3, Status.PASS),
        (0.71, 3, Status.FAIL),
        (0.7, 4, Status.FAIL),
    ],
    ids=["the same", "within 0.1 %", "beyond", "an unknown query"],
)
def test_test08_compares_entropies(
    prediction: float, query: int, expected: Status, tmp_path: Path
) -> None:
    """Samples are known by timestamp and query, not by LoadGen's index."""
    whole = floats(1, 3, 0.7, 0.2, 1, 0, 1, 1, 2)
    accuracy = log_answers(tmp_path / "accuracy", [(11, whole)])
    folder = log_answers(tmp_path / "TEST08", [(0, floats(1, query, prediction, 0.2))])
    references = {"accuracy": accuracy}
    found = verify_run("TEST08", folder, references, "dlrm-v3", round_name="v6.0")

    assert outcome(found) == {"compliance_accuracy": expected}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], Status.FAIL),
        ([floats(1, 3, float("nan"), 0.2)], Status.ERROR),
        ([floats(1, 3, float("inf"), 0.2)], Status.ERROR),
        ([floats(1, 3, 0.7)], Status.ERROR),
        ([floats(1, 3, 0.7, 0.2, 0.5)], Status.ERROR),
    ],
    ids=["none", "no number", "without end", "a number less", "a number more"],
)
def test_test08_passes_no_run_without_predictions(
    answers: list[bytes], expected: Status, tmp_path: Path
) -> None:
    """Nothing differs from nothing, and no difference is above a limit if it is NaN."""
    whole = floats(1, 3, 0.7, 0.2, 1, 0, 1, 1, 2)
    accuracy = log_answers(tmp_path / "accuracy", [(11, whole)])
    folder = log_answers(tmp_path / "TEST08", [(0, answer) for answer in answers])
    references = {"accuracy": accuracy}
    found = verify_run("TEST08", folder, references, "dlrm-v3", round_name="v6.0")

    assert outcome(found) == {"compliance_accuracy": expected}


def test_the_entropy_of_a_coin_is_one() -> None:
    """Predictions that know nothing but the mean of the labels."""
    assert pytest.approx(1.0) == compute_entropy((0.5, 0.5), (1.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [((1200, 1300), Status.PASS), ((1100, 1150), Status.FAIL)],
)
def test_test09_bounds_the_mean_length(
    lengths: tuple[int, int], expected: Status, tmp_path: Path
) -> None:
    """1,278 tokens, ten percent more or less."""
    log_of(tmp_path, [{"index": 1, "data": bytes(4 * n)} for n in lengths])
    found = verify_run("TEST09", tmp_path, {}, "gpt-oss-120b", round_name="v6.0")

    assert outcome(found) == {"compliance_output_length": expected}
    text = (tmp_path / "verify_output_len.txt").read_text().splitlines()
    assert f"Mean output tokens: {sum(lengths) / 2:.2f}" in text
    assert (expected is Status.PASS) is ("TEST PASS" in text)


def test_the_length_of_no_answer_is_an_error(tmp_path: Path) -> None:
    """A run without answers proves nothing."""
    found = verify_run(
        "TEST09", log_of(tmp_path, []), {}, "gpt-oss-120b", round_name="v6.0"
    )

    assert list(outcome(found).values()) == [Status.ERROR]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_ends_of_sequence_are_counted_from_the_end(ids: list[int]) -> None:
    """As the script's loop does it, which never looks at the first token."""
    expected, place = 0, len(ids) - 1
    while place > 0 and ids[place] == 2:
        expected, place = expected + 1, place - 1

    assert expected == count_trailing(tuple(ids), 2)
