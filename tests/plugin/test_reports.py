"""Reporters and observers of other packages that fail, refuse, or run under xdist.

The pages of docs/extend show good ones, which tests/docs runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.newest import newest

SUITES = Path(__file__).parents[2]
"""A wheel has them inside the package; here they are beside it."""
Install = Callable[[str, str], None]


@pytest.fixture
def install(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of one module, ``theirs``, with these entry points."""

    def write(points: str, module: str) -> None:
        metadata = pytester.mkdir("theirs-1.dist-info")
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\n")
        (metadata / "entry_points.txt").write_text(points)
        (pytester.path / "theirs.py").write_text(module)
        for path in (str(SUITES), str(pytester.path)):
            monkeypatch.setenv("PYTHONPATH", path, prepend=os.pathsep)

    return write


RUN = (
    str(SUITES / "suites"),
    "-k",
    "resnet50 and offline and performance",
    "--mlperf-duration=0.5",
    "--mlperf-engine=tests.support.doubles:ECHO",
    "--mlperf-reports=reports",
)


BROKEN = """
[pytest_mlperf.reporters]
broken = theirs:BROKEN
silent = theirs:SILENT
lost = theirs:LOST
typo = theirs:TYPO
[pytest_mlperf.observers]
broken = theirs:OBSERVER
lost = theirs:LOST
"""
FAILING = """
from contextlib import contextmanager


class Broken:
    name = "broken"

    def write(self, session, folder):
        assert (folder / "results.jsonl").read_text().count("\\n") == 3
        raise ZeroDivisionError("it broke\\nin the middle")


class Silent:
    name = "silent"

    def write(self, session, folder):
        return None


class Typo:
    name = "typo"

    def write(self, session, folder):
        return session.verdict


class Observer:
    facts = {"before": "1"}

    @contextmanager
    def around(self, task):
        yield self

    def see(self, heartbeat):
        raise KeyError("no such sensor")


BROKEN, SILENT, TYPO, OBSERVER = Broken(), Silent(), Typo(), Observer()
"""


def test_a_reporter_that_fails_loses_nothing_and_is_seen(
    pytester: pytest.Pytester, install: Install
) -> None:
    """One line each, and exit status 1; an observer is told in the verdict only."""
    install(BROKEN, FAILING)
    result = pytester.runpytest_subprocess(*RUN)

    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "results: reports*/results.jsonl",
            "report: broken failed: ZeroDivisionError: it broke; results.jsonl is *",
            "report: lost failed: ValueError: reporter 'lost' cannot be imported*",
            "report: typo failed: AttributeError: *; results.jsonl is whole",
        ]
    )
    result.stdout.no_fnmatch_line("*silent*")
    session = newest(pytester)
    (verdict,) = session.verdicts
    assert session.exit_status == 0
    assert verdict.outcome == "VALID"
    assert verdict.facts["before"] == "1"
    assert verdict.facts["observer broken"] == "failed: KeyError: 'no such sensor'"
    assert verdict.facts["observer lost"].startswith(
        "failed: ValueError: observer 'lost' cannot be imported from theirs:LOST"
    )


REFUSING = """
from pytest_mlperf.core.errors import RunRefused


class Meter:
    def around(self, task):
        raise RunRefused(f"{task.cell.id}: no power meter; connect one")


METER = Meter()
"""


def test_an_observer_that_refuses_fails_the_item_before_it_runs(
    pytester: pytest.Pytester, install: Install
) -> None:
    """With its own words, and LoadGen has written nothing."""
    install("[pytest_mlperf.observers]\nmeter = theirs:METER\n", REFUSING)
    result = pytester.runpytest_subprocess(*RUN)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*resnet50-offline-echo: no power meter; connect one"])
    assert not list((pytester.path / "reports/latest").rglob("mlperf_log_*"))


NOTING = """
import os


class Note:
    name = "note"

    def write(self, session, folder):
        path = folder / "note.txt"
        with path.open("a") as stream:
            what = len(session.records), session.labels, session.exit_status
            stream.write(f"{what}\\n")
        return path


NOTE = Note()
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_reporter_runs_once_a_session_that_measured(
    suite: pytest.Pytester, install: Install, workers: tuple[str, ...]
) -> None:
    """On the controller, with the records of all workers; a failed session stays so."""
    if workers and len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two workers need two CPUs")
    install("[pytest_mlperf.reporters]\nnote = theirs:NOTE\n", NOTING)
    result = suite.runpytest_subprocess(*workers, "--fast", "-k", "resnet50")
    suite.runpytest_subprocess("-k", "bert and multistream")  # measures nothing

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (note,) = (suite.path / "reports/latest/note.txt").read_text().splitlines()
    assert note == "(8, ('embedded', 'fast'), 1)"


IMPATIENT = """
import os, signal


class Impatient:
    name = "impatient"

    def write(self, session, folder):
        os.kill(os.getpid(), signal.SIGTERM)
        (folder / "whole.txt").write_text("")


IMPATIENT = Impatient()
"""


def test_a_signal_at_the_end_of_a_session_cuts_nothing_short(
    suite: pytest.Pytester, install: Install
) -> None:
    """All is measured: reports and table come, and the status is the session's own."""
    install("[pytest_mlperf.reporters]\nimpatient = theirs:IMPATIENT\n", IMPATIENT)
    result = suite.runpytest_subprocess("--fast", "-k", "resnet50")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (suite.path / "reports/latest/whole.txt").exists()
    result.stdout.fnmatch_lines(["*mlperf: * results*", "results: reports/*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
