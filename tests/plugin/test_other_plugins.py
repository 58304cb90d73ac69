"""Other people's plugins beside the suites, all at once: ``tox -e plugins``."""

from __future__ import annotations

import html
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.newest import read_newest

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "allure_pytest", "pytest_asyncio", "pytest_benchmark", "pytest_cov", "pytest_html",
    "pytest_metadata", "pytest_order", "pytest_randomly", "pytest_repeat",
    "pytest_rerunfailures", "pytest_sugar", "pytest_timeout", "xdist",
)  # fmt: skip
needs_all = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, MODULES)), reason="run tox -e plugins"
)
CHOSEN = ("-p", "no:cacheprovider", "-k", "resnet50 and offline and performance")
RUN = (*CHOSEN, "--mlperf-duration=0.2", "--mlperf-engine=null")
WARNS = """
import warnings

def pytest_configure():
    warnings.warn("an option is unset", DeprecationWarning)
"""


def run_suites(folder: Path, *arguments: str, flag: str = "-B") -> str:
    """Return what a clone's suites print; they have to pass."""
    command = [sys.executable, flag, "-m", "pytest", "suites", *arguments]
    path = os.pathsep.join((str(ROOT), str(folder), os.environ.get("PYTHONPATH", "")))
    inherited = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [*command, "--mlperf-reports", str(folder / "reports")],
        cwd=ROOT, env={**inherited, "PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_clone_collects_beside_a_plugin_that_warns(tmp_path: Path) -> None:
    """Strictness is for the project's own tests; pytest warns under -O, too, and there
    may be no terminal.
    """
    (tmp_path / "warns.py").write_text(WARNS)
    plugins = ("-p", "no:terminal", "-p", "warns")
    run_suites(tmp_path, *CHOSEN, "--collect-only", *plugins, flag="-O")


@needs_all
@pytest.mark.parametrize("workers", ["0", "2"])
def test_all_of_them_run_beside_the_suites(tmp_path: Path, workers: str) -> None:
    """Each does its work, and their reports have a passed item's verdict."""
    page, allure = tmp_path / "report.html", tmp_path / "allure"
    output = run_suites(
        tmp_path,
        *(*RUN, "-n", workers, "--count=2", "--reruns=1"),
        *("--cov=pytest_mlperf.core", "--cov-report=term", f"--alluredir={allure}"),
        *(f"--html={page}", "--self-contained-html", "--order-scope=module"),
        "--timeout=100",
    )
    found = read_newest(tmp_path / "reports")
    attached = [path.read_text() for path in allure.glob("*-attachment.txt")]
    described = [path.read_text() for path in allure.glob("*-result.json")]

    assert [record.outcome for record in found.records] == ["passed", "passed"]
    assert not found.is_interrupted
    assert "INTERNALERROR" not in output
    assert html.unescape(page.read_text()).count(": VALID under") >= 2
    link = 'href="reports/'  # beside the page
    assert link in html.unescape(page.read_text()).replace('\\"', '"')
    assert sum(": VALID under" in text for text in attached) == 2
    assert sum(f"logs: {tmp_path}" in text for text in attached) == 2
    assert all('"Cell(resnet50-offline-null, v6.1)"' in text for text in described)


@needs_all
def test_a_timeout_that_is_too_short_is_told_before_the_run(tmp_path: Path) -> None:
    """A run of ten minutes cannot end within one; a note beside the header says so."""
    command = [sys.executable, "-m", "pytest", "suites", *CHOSEN, "--timeout=1"]
    command += ["--mlperf-engine=null", "--mlperf-reports", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "note: pytest-timeout ends an item after 1 s, but the longest" in done.stdout
    assert "at least 600 s: its item will fail; raise --timeout" in done.stdout
