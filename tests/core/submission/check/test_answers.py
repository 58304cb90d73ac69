"""TEST06 keeps its answers in the tree, and the check verifies them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.description import describe
from tests.support import trees
from tests.support.answer_logs import Record
from tests.support.answer_logs import log_of
from tests.support.answer_logs import spoken
from tests.support.tree_changes import HOME
from tests.support.tree_changes import SYSTEM

ANSWERS = f"{HOME}/results/box/llama3.1-8b/Server/TEST06/accuracy"
TWO_BYTES: Record = {"index": 5, "data": b"\x09\x00", "token_count": 1}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A datacenter system with a test of llama3.1-8b, and nothing else."""
    found = describe(
        trees.DESCRIPTION, round_name="v6.1", org=trees.ORG,
        division="closed", category="datacenter",
    )  # fmt: skip
    trees.write(tmp_path / SYSTEM, json.dumps(found))
    log_of(tmp_path / ANSWERS, [spoken(4, 4), spoken(9, 8, 2)])
    return tmp_path


def find_problems(root: Path) -> list[Problem]:
    """Return what is wrong with the answers themselves."""
    return [one for one in check_tree(root, "v6.1") if one.path.startswith(ANSWERS)]


def test_answers_that_pass_again_have_no_problem(root: Path) -> None:
    """Whatever else the result lacks."""
    assert find_problems(root) == []


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (spoken(9, 8, first=8), "compliance_first_token"),
        (spoken(9, 2, 2), "compliance_single_eos"),
        (spoken(9, 8, count=3), "compliance_token_count"),
    ],
)
def test_answers_that_fail_are_found_whatever_the_file_says(
    root: Path, answer: Record, rule: str
) -> None:
    """verify_accuracy.txt beside them may say that the test was passed."""
    log_of(root / ANSWERS, [spoken(4, 4), answer])

    assert [problem.rule for problem in find_problems(root)] == [rule]


def test_answers_that_are_missing_are_asked_for(root: Path) -> None:
    """The problem names the file."""
    (root / ANSWERS / "mlperf_log_accuracy.json").unlink()
    missing = [one for one in find_problems(root) if one.path.endswith(".json")]

    assert "the logged answers" in [one.required for one in missing]


def test_tokens_of_another_size_are_left_to_the_official_script(root: Path) -> None:
    """It takes their type as an option, which no file of the tree tells."""
    log_of(root / ANSWERS, [TWO_BYTES])

    assert find_problems(root) == []


def test_a_damaged_log_of_answers_is_an_error(root: Path) -> None:
    """It is neither passed nor passed over."""
    (root / ANSWERS / "mlperf_log_accuracy.json").write_text("[\nnone\n]\n")

    assert find_problems(root) != []
