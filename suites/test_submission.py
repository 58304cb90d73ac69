"""A submission tree, result by result: pytest suites/test_submission.py --mlperf-tree.

Needs no engine and no LoadGen. Without --mlperf-tree there are no items here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import Result
from pytest_mlperf.core.submission.check import Tree
from pytest_mlperf.core.submission.check import result_problems
from pytest_mlperf.core.submission.check import tree_problems
from pytest_mlperf.submission import checkers


def test_submission_tree(submission_tree: Tree, round_problems: list[Problem]) -> None:
    """Files, systems, code and the set of scenarios are as the round asks."""
    problems = [*round_problems, *tree_problems(submission_tree)]

    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)


def test_submission_result(submission_tree: Tree, tree_result: Result) -> None:
    """The result is complete, and every log and verification in it passes."""
    problems = list(result_problems(submission_tree, tree_result))

    if problems:
        pytest.fail("\n".join(map(str, problems)), pytrace=False)


def test_submission_official(submission_tree: Tree, official_checker: Path) -> None:
    """The official checker is content, and found results to be content with."""
    root, name = submission_tree.listing.root, submission_tree.round.name
    said, good = checkers.run_official(root, name, official_checker)

    if not good:
        pytest.fail("\n".join(said), pytrace=False)
