"""suites/test_submission.py: items for a tree, and none without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import trees

ROOT = Path(__file__).resolve().parents[2]
HOME = "closed/ACME"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that nothing is wrong with: bert-99, edge, v6.1."""
    both = {"bert": ("SingleStream", "Offline")}
    return trees.make(tmp_path_factory.mktemp("trees") / "v6.1", "v6.1", both)


def session(*words: str | Path) -> tuple[int, str]:
    """Run the suite in a process of its own; return its exit code and output."""
    command = [sys.executable, "-m", "pytest", "suites/test_submission.py", "-v"]
    command += ["-p", "no:cacheprovider", *map(str, words)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_without_a_tree_there_is_no_item() -> None:
    """An ordinary session of the suites is not bothered."""
    code, text = session()

    assert code == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "no tests ran" in text


def test_each_result_is_an_item_and_the_tree_is_one(tree: Path) -> None:
    """No device, engine or LoadGen is asked for."""
    code, text = session("--mlperf-tree", tree)

    assert code == 0, text
    assert "test_submission_tree PASSED" in text
    assert "test_submission_result[box/bert-99/Offline] PASSED" in text
    assert "3 passed" in text


def test_a_damaged_result_fails_its_own_item_with_the_remedy(tree: Path) -> None:
    """The others pass."""
    path = f"{HOME}/results/box/bert-99/Offline/user.conf"
    kept = (tree / path).read_bytes()
    (tree / path).write_bytes(b"")
    code, text = session("--mlperf-tree", tree)
    (tree / path).write_bytes(kept)

    assert code == 1
    assert f"{path}: measurements_files: found an empty file" in text
    assert "1 failed, 2 passed" in text


def test_the_official_checker_is_an_item_of_its_own(tree: Path, tmp_path: Path) -> None:
    """It passes only with results: one that prints OK and lists none fails."""
    script = tmp_path / "submission_checker.py"
    script.write_text("print('INFO] SUMMARY: submission looks OK')\n", "utf-8")
    code, text = session("--mlperf-tree", tree, "--mlperf-checker", tmp_path)

    assert code == 1
    assert "test_submission_official[checker] FAILED" in text
    assert "SUMMARY: submission looks OK; 0 results" in text


def test_a_folder_that_is_no_submission_fails(tmp_path: Path) -> None:
    """A gate that finds nothing fails."""
    code, text = session("--mlperf-tree", tmp_path)

    assert code == 1
    assert "something_to_check" in text


def test_other_peoples_file_of_that_name_is_collected(
    pytester: pytest.Pytester,
) -> None:
    """Its tests were left out, wherever the plugin was installed."""
    pytester.makepyfile(
        test_submission="""
        def test_a_form_is_sent(): ...
        class TestForm:
            def test_a_field_is_read(self): ...
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)
