"""The official checker on a tree."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import tree
from tests.support import sessions
from tests.support.submissions import ask_of
from tests.support.submissions import make_content

CLONE = "MLPERF_INFERENCE"
"""Environment variable: a clone of mlcommons/inference, to be judged by it too."""


STAND_IN = """
import argparse, pathlib
parser = argparse.ArgumentParser()
for name in ("input", "version", "csv"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
found = sorted(pathlib.Path(args.input).glob("*/*/results/*/*/*"))
pathlib.Path(args.csv).write_text("\\n".join(["head", *map(str, found)]))
print("[x ERROR] " * (not found) + "SUMMARY: submission looks OK")
"""


def test_the_official_checker_is_content_with_results_only(
    tmp_path: Path, bert: list[Run]
) -> None:
    """It calls an empty tree fine; here that is no success."""
    tools = tmp_path / "clone/tools/submission"
    tools.mkdir(parents=True)
    (tools / "submission_checker.py").write_text(STAND_IN)
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path

    said, good = checkers.run_official(root, "v6.1", tmp_path / "clone")
    assert good
    assert said == ["official checker (v6.1): SUMMARY: submission looks OK; 2 results"]

    shutil.rmtree(root / "closed/ACME/results/box")
    _, good = checkers.run_official(root, "v6.1", tools)
    assert not good


def test_a_folder_without_a_checker_is_named(tmp_path: Path) -> None:
    """The words say what to give instead."""
    [said], good = checkers.run_official(tmp_path, "v6.1", tmp_path)

    assert not good
    assert str(tmp_path) in said
    assert "--mlperf-checker" in said


@pytest.mark.skipif(
    CLONE not in os.environ, reason=f"{CLONE} names no clone of mlcommons/inference"
)
@pytest.mark.parametrize("round_name", ["v5.1", "v6.1"])
def test_the_real_checker_accepts_the_tree(tmp_path: Path, round_name: str) -> None:
    """resnet50 and bert-99 of an edge system: five results, and it looks OK."""
    runs = sessions.complete(tmp_path / "reports", round_name)
    made = make_content(runs, ask_of(round_name))
    root = tree.write_tree(made, tmp_path / "submission").path

    said, good = checkers.run_official(root, round_name, Path(os.environ[CLONE]))

    assert good, said
    assert "submission looks OK" in said[-1]
    assert said[-1].endswith("5 results")
