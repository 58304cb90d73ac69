"""Tests of mlperf items that end without a run: they fail, and say what to write."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.support.newest import newest

SUITE = """
import pytest

@pytest.mark.mlperf(mode="performance", benchmark="resnet50", scenario="offline")
def test_performance(cell): ...

@pytest.mark.mlperf(mode="accuracy", benchmark="resnet50", scenario="offline")
def test_accuracy(cell, workload, engine): assert engine.digest
"""
OTHERS = """
import pytest

@pytest.mark.mlperf(mode="performance", benchmark="resnet50", scenario="offline")
class TestOffline:
    def test_that_skips(self, cell, measure): pytest.skip("it is Sunday")

    def test_that_fails(self, cell, measure): assert cell.benchmark == "bert"

    def test_that_is_known_to_fail(self, cell, measure): pytest.xfail("issue 7")

    def test_that_measures(self, cell, verdict): assert verdict.metric

@pytest.fixture
def verdict(cell, measure): return measure(cell)

@pytest.mark.mlperf(mode="bare", benchmark="resnet50", scenario="offline")
def test_bare(cell, engine): engine.time_batches(size=1, count=1)
"""
AUDIT = """
import pytest

@pytest.mark.mlperf(mode="compliance", benchmark="resnet50", scenario="offline")
def test_compliance(cell, audit): ...
"""
QUICK = ("--mlperf-engine=null", "--mlperf-duration=0.1")


@pytest.mark.parametrize(
    ("arguments", "modes"),
    [
        ((), ("performance", "accuracy")),
        (("-n2",), ("performance", "accuracy")),
        (("--mlperf-mode=accuracy",), ("accuracy",)),
    ],
)
def test_a_test_that_measures_nothing_fails_and_says_what_to_write(
    pytester: pytest.Pytester, arguments: tuple[str, ...], modes: tuple[str, ...]
) -> None:
    """It passed, with exit status 0, beside an ERROR in the table."""
    pytester.makepyfile(test_suite=SUITE)
    junit = "--junitxml=junit.xml"
    result = pytester.runpytest_subprocess(*QUICK, *arguments, junit)
    said = {
        mode: f"test_suite.py::test_{mode}[resnet50-offline-null]: the test has ended "
        f"and nothing was measured, but its mark has mode='{mode}', so it should "
        "measure a run; ask for the fixture 'measure' and call measure(cell) in it, "
        "or write mode='bare' for a test of the engine alone"
        for mode in modes
    }
    cases = ET.parse(pytester.path / "junit.xml").iter("failure")  # noqa: S314
    records = newest(pytester).records

    result.assert_outcomes(failed=len(modes))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {one.outcome for one in records} == {"failed"}
    assert {one.cell["mode"]: one.reason for one in records} == said
    assert {case.text for case in cases} == {*said.values()}
    assert not any("hooks.py" in line for line in result.outlines)


def test_an_item_that_ends_otherwise_is_not_asked_for_a_run(
    pytester: pytest.Pytester,
) -> None:
    """A skip stays one, a failure is shown alone, and a fixture may have measured."""
    pytester.makepyfile(test_suite=OTHERS)
    result = pytester.runpytest_subprocess(*QUICK)
    found = {
        one.nodeid.rpartition("::")[2].partition("[")[0]: (one.outcome, one.reason)
        for one in newest(pytester).records
    }

    result.assert_outcomes(passed=2, failed=1, skipped=1, xfailed=1)
    assert found["test_that_skips"] == ("skipped", "it is Sunday")
    assert found["test_that_is_known_to_fail"][0] == "xfailed"
    assert found["test_that_measures"] == ("passed", "")
    assert found["test_bare"] == ("passed", "")
    outcome, reason = found["test_that_fails"]
    assert outcome == "failed"
    assert reason.startswith("AssertionError: assert 'resnet50' == 'bert'")
    assert "nothing was measured" not in result.stdout.str()


def test_a_compliance_item_that_measures_nothing_is_told_of_its_audit(
    pytester: pytest.Pytester,
) -> None:
    """Its call takes the audit too."""
    pytester.makepyfile(test_suite=AUDIT)
    result = pytester.runpytest_subprocess("--mlperf-compliance")
    reasons = [one.reason for one in newest(pytester).records]

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert reasons
    assert all("and call measure(cell, audit) in it" in one for one in reasons)


def test_fixtures_alone_are_set_up_without_a_run(pytester: pytest.Pytester) -> None:
    """``--setup-only`` runs no test, and so none fails."""
    pytester.makepyfile(test_suite=SUITE)
    result = pytester.runpytest_subprocess(*QUICK, "--setup-only")

    assert result.ret == pytest.ExitCode.OK
    assert {one.outcome for one in newest(pytester).records} == {"set up"}
