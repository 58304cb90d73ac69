"""Compliance tests as items: when they are there, their ids, marks and order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.newest import newest

SUITE = """
import pytest
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.plugin.session import State

@pytest.mark.mlperf(mode="compliance")
def test_compliance(cell, audit, request):
    found = (cell.model, cell.scenario.value, cell.engine, audit, cell.round, None, ())
    State.attach(request.node, Verdict(*found))

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


SHUFFLE = """
import random
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    random.Random({seed}).shuffle(items)
"""


@pytest.mark.parametrize("seed", range(4))
def test_the_order_survives_plugins_that_reorder(
    audits: pytest.Pytester, seed: int
) -> None:
    """Builds stay together, and tests behind what they are compared with; the rest is
    the other plugin's.
    """
    audits.makeconftest(SHUFFLE.format(seed=seed))
    chosen = ("-k", "(resnet50 or bert) and not server")
    result = audits.runpytest("--collect-only", "-q", "--mlperf-compliance", *chosen)
    ids = [line for line in result.outlines if "::test_" in line]
    cells = [line.partition("[")[2].partition("-onnx")[0] for line in ids]
    builds = [cell.rpartition("-")[0] for cell in cells]
    scenarios = [cell for cell, line in zip(cells, ids, strict=True) if "acc" in line]

    assert len(ids) > 12
    assert builds == sorted(builds, key=list(dict.fromkeys(builds)).index)
    assert scenarios != sorted(scenarios)
    for place, line in enumerate(ids):
        if "test_compliance" in line:
            later = zip(cells[place:], ids[place:], strict=True)
            runs = [i for cell, i in later if cell == cells[place]]
            assert all("test_compliance" in run for run in runs)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-k", "TEST04 and resnet50"], 4),
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


def test_a_mark_may_name_its_compliance_test(pytester: pytest.Pytester) -> None:
    """A function of one's own for one test of them, as for one benchmark."""
    mark = 'mode="compliance", benchmark="resnet50", audit="TEST04"'
    pytester.makepyfile(SUITE.replace('mode="compliance"', mark))
    chosen = ("--mlperf-compliance", "-m", "compliance")
    outcomes = pytester.runpytest(*chosen, "-q").parseoutcomes()

    assert outcomes == {"passed": 4, "deselected": outcomes["deselected"]}


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


BACKWARDS = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    yield
    items.reverse()
"""


@pytest.mark.parametrize(
    "arguments", [("-p", "no:xdist"), ("-n", "2", "--dist", "worksteal")]
)
def test_a_test_does_the_run_that_it_needs_and_nobody_repeats_it(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    """It comes first, in one process or on another worker than its run's own item,
    which takes over what was measured.

    The engine sleeps: one whose speed is the machine's may miss the test's tolerance,
    and then both runs are repeated.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeconftest(BACKWARDS)
    for module in ("performance", "compliance"):
        source = Path(__file__).parents[2] / "suites" / f"test_{module}.py"
        pytester.path.joinpath(source.name).write_text(source.read_text())
    chosen = "resnet50 and offline and (performance or TEST04)"
    result = pytester.runpytest_subprocess(
        *("--mlperf-compliance", "--mlperf-duration=0.5"),
        *("--mlperf-engine", "tests.support.doubles:SLOW_SAMPLE"),
        # More than it does, or a probe that was held up has the run end too early.
        *("--mlperf-target-qps", "1000", "-k", chosen, *arguments),
    )
    found = {record.cell["mode"]: record for record in newest(pytester).records}
    performance, audit = found["performance"], found["compliance"]
    logs = Path(pytester.path / "reports" / "latest" / "logs")

    assert len(found) == 2
    assert performance.outcome == "passed", result.outlines
    assert performance.verdict is not None
    assert audit.verdict is not None, audit.reason
    assert audit.verdict.run.compared_with == {
        "performance": performance.verdict.folder
    }
    names = sorted(path.name for path in next(logs.glob("resnet50*")).iterdir())
    # Both workers may have planned the folder, and the second name been used.
    assert len([name for name in names if "performance" in name]) == 1
