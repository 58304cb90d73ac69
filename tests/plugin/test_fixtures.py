"""The plugin's fixtures beside those of the project whose suite it is."""

from __future__ import annotations

import pytest

CONFTEST = """
import pytest

@pytest.fixture
def runner(): return "a command's"

@pytest.fixture
def engine(): return "a database's"

@pytest.fixture
def workload(): return "a day's"

@pytest.fixture
def placement(): return "an advertisement's"

@pytest.fixture
def rig(): return "a truck's"
"""
SUITE = """
import pytest

@pytest.mark.mlperf(mode="performance", benchmark="resnet50", scenario="offline")
def test_speed(cell, sut, measure, engine):
    assert engine == "a database's"
    assert measure(cell).metric

def test_command(runner, workload, placement, rig):
    assert (runner, workload) == ("a command's", "a day's")
"""


def test_a_project_may_have_fixtures_of_the_same_names(
    pytester: pytest.Pytester,
) -> None:
    """``runner`` is a command line's in many, and ``engine`` a database's."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_suite=SUITE)

    result = pytester.runpytest("--mlperf-engine", "null", "--mlperf-duration", "0.1")

    result.assert_outcomes(passed=2)
