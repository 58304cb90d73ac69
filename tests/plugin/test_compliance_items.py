"""Compliance tests as items: when they are there, their ids, marks and order."""

from __future__ import annotations

import pytest

SUITE = """
import pytest

@pytest.mark.mlperf(mode="compliance")
def test_compliance(cell, audit):
    assert audit

@pytest.mark.mlperf(mode="accuracy")
def test_accuracy(cell):
    pass

@pytest.mark.mlperf(mode="performance")
def test_performance(cell):
    pass
"""


@pytest.fixture
def audits(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a suite of all three modes."""
    pytester.makepyfile(test_suite=SUITE)
    return pytester


def test_nobody_runs_compliance_tests_by_accident(audits: pytest.Pytester) -> None:
    """They multiply the time of a session; nothing is left of them without a wish."""
    result = audits.runpytest("--collect-only", "-q")

    result.stdout.no_fnmatch_line("*test_compliance*")
    result.stdout.no_fnmatch_line("*deselected*")


@pytest.mark.parametrize(
    "wish",
    [
        ["--mlperf-compliance"],
        ["--mlperf-rehearsal", "--mlperf-round", "v6.1"],
    ],
)
def test_they_follow_performance_and_accuracy_of_their_cell(
    audits: pytest.Pytester, wish: list[str]
) -> None:
    """Both are what a compliance run is compared with."""
    chosen = "resnet50 and offline"
    result = audits.runpytest("--collect-only", "-q", *wish, "-k", chosen)

    result.stdout.fnmatch_lines(
        [
            "*::test_performance[[]resnet50-offline-*[]]",
            "*::test_accuracy[[]resnet50-offline-*[]]",
            "*::test_compliance[[]resnet50-offline-*-TEST01[]]",
            "*::test_compliance[[]resnet50-offline-*-TEST04[]]",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-k", "TEST04"], 4),
        (["-k", "TEST01 and bert-99.9"], 3),
        (["-m", "test01 and resnet50 and offline"], 1),
        (["-m", "compliance and resnet"], 8),
        (["-m", "mlperf(benchmark='resnet50', audit='TEST04')"], 4),
        (["test_suite.py::test_compliance[resnet-offline-onnxruntime-TEST01]"], 1),
        (["test_suite.py::test_compliance[resnet50-Offline-onnxruntime-TEST01]"], 1),
    ],
)
def test_they_are_selected_as_a_pytest_user_expects(
    audits: pytest.Pytester, arguments: list[str], expected: int
) -> None:
    """Keyword, bare mark, full mark, id and alias; what nobody runs here is skipped."""
    result = audits.runpytest(
        "--mlperf-compliance", "--strict-markers", "-q", *arguments
    )
    outcomes = result.parseoutcomes()

    assert outcomes["passed"] == expected
    assert not {"failed", "errors"} & outcomes.keys()


@pytest.mark.parametrize("arguments", [["-k", "TEST01"], ["-m", "compliance"]])
def test_selecting_one_without_asking_for_any_says_what_to_add(
    audits: pytest.Pytester, arguments: list[str]
) -> None:
    """One line, with the options that bring them."""
    result = audits.runpytest("--strict-markers", *arguments)

    result.stdout.fnmatch_lines(
        ["mlperf: nothing selected; compliance tests*--mlperf-compliance*: add one"]
    )


def test_a_suite_of_compliance_tests_alone_says_so_too(
    audits: pytest.Pytester,
) -> None:
    """Without a single item there is nothing to deselect either."""
    audits.makepyfile(test_suite=SUITE.partition('@pytest.mark.mlperf(mode="acc')[0])
    result = audits.runpytest()

    result.stdout.fnmatch_lines(["*compliance tests are collected with*"])


def test_a_compliance_test_has_to_ask_for_its_name(pytester: pytest.Pytester) -> None:
    """A cell has several; the function could not know which one it is."""
    pytester.makepyfile("""
        import pytest

        @pytest.mark.mlperf(mode="compliance")
        def test_compliance(cell):
            pass
    """)
    result = pytester.runpytest("--mlperf-compliance")

    result.stdout.fnmatch_lines(["*ask for 'audit' beside 'cell'*"])
