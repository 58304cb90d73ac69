"""Trees with results of MLPerf Endpoints: one that passes, a change that does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check import read_tree
from tests.support import trees
from tests.support.endpoints import CONFIG
from tests.support.endpoints import SCORES
from tests.support.endpoints import SUMMARY
from tests.support.endpoints import Change
from tests.support.endpoints import configure
from tests.support.endpoints import edit
from tests.support.endpoints import make_tree
from tests.support.endpoints import overwrite

AUDIT = "audit/audit_output_caching_test.json"
CACHED = {
    "test": "output_caching_test",
    "passed": True,
    "ref_qps": 0.02,
    "audit_qps": 0.0201,
    "threshold": 0.2,
    "ref_completed": 20,
    "ref_requested": 20,
    "audit_completed": 20,
    "audit_requested": 20,
}
"""What the client writes of TEST04 (compliance/result.py)."""


def problems(root: Path, rule: str) -> list[Problem]:
    """Return the problems of one rule but those of other scenarios that are missing."""
    found = list(check_tree(root))
    assert all(problem.remedy for problem in found)
    return [problem for problem in found if problem.rule == rule]


def test_a_tree_of_real_results_has_no_problem(tmp_path: Path) -> None:
    """Its round is that of its seeds; without Offline a scenario is missing."""
    offline = make_tree(tmp_path, "Offline")
    make_tree(tmp_path, "Server")
    whole = list(check_tree(tmp_path))
    shutil.rmtree(offline)
    alone = list(check_tree(tmp_path))

    assert read_tree(tmp_path)[0].round.name == "v6.1"
    assert whole == []
    assert [problem.rule for problem in alone] == ["required_scenarios"]


CASES: list[tuple[str, Change, str]] = [
    ("no_errors", edit(SUMMARY, "n_samples_failed", to=1), SUMMARY),
    ("accuracy_exact_match",
     edit(SCORES, "accuracy_scores", 0, "score", to=0.5), SCORES),
    ("seeds", configure("_seed: 16159082839903944936", "_seed: 1"), CONFIG),
    ("log", lambda folder: (folder / SUMMARY).unlink(), ""),
    ("log", overwrite(SCORES, b"{"), ""),
    ("endpoints_files",
     lambda folder: trees.write(folder / "performance/run_1/result_summary.json", "{}"),
     "performance/run_1"),
    ("measurements_files", lambda folder: (folder / "README.md").unlink(), "README.md"),
    ("measurements_fields",
     edit("measurements.json", "retraining", to=""), "measurements.json"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change", "path"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_a_change_breaks_its_rule_and_the_problem_names_the_file(
    tmp_path: Path, rule: str, change: Change, path: str
) -> None:
    """The tree passes that rule before."""
    folder = make_tree(tmp_path)
    before = problems(tmp_path, rule)
    change(folder)
    after = problems(tmp_path, rule)

    assert before == []
    assert any(path in problem.path for problem in after)


@pytest.mark.parametrize(
    "change",
    [
        {"passed": False},
        {"passed": "yes"},
        {"test": "another_test"},
        {"audit_qps": 0.0241},
        {"audit_qps": None},
        {"threshold": 0.5},
        {"audit_completed": 19},
        {"ref_requested": 21},
    ],
)
def test_wan_needs_its_audit_and_the_audit_its_figures(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """The checker believes ``passed``; the figures beside it have to say it too."""
    folder = make_tree(tmp_path, "SingleStream", "wan-2.2-t2v-a14b")
    missing = problems(tmp_path, "compliance")
    trees.write(folder / AUDIT, json.dumps(CACHED))
    passed = problems(tmp_path, "compliance_verdict") + problems(tmp_path, "compliance")
    trees.write(folder / AUDIT, json.dumps(CACHED | change))
    failed = problems(tmp_path, "compliance_verdict")

    assert [problem.path.endswith(AUDIT) for problem in missing] == [True]
    assert passed == []
    assert failed


def test_the_open_division_needs_no_audit(tmp_path: Path) -> None:
    """And no compliance test of LoadGen's."""
    make_tree(tmp_path, "SingleStream", "wan-2.2-t2v-a14b")
    closed = problems(tmp_path, "compliance")
    (tmp_path / "closed").rename(tmp_path / "open")

    assert len(closed) == 1
    assert problems(tmp_path, "compliance") == []


def test_videos_of_wan_are_asked_for_as_of_loadgen(tmp_path: Path) -> None:
    """extra_files_check looks at both harnesses' accuracy folders."""
    make_tree(tmp_path, "SingleStream", "wan-2.2-t2v-a14b")

    assert len(problems(tmp_path, "accuracy_examples")) == 10


def test_a_round_that_takes_loadgen_alone_refuses_the_result(tmp_path: Path) -> None:
    """v6.0's checker knows no other logs."""
    make_tree(tmp_path)
    found = [p for p in check_tree(tmp_path, "v6.0") if p.rule == "rule"]

    assert len(found) == 2
