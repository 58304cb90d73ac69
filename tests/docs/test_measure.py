"""docs/measure.md: a suite of one's own, the bare engine, a script without pytest."""

from __future__ import annotations

from pytest_mlperf.core.session_results import SET_UP
from tests.support.documents import Project
from tests.support.documents import copy_package
from tests.support.documents import read_page

PAGE = read_page("measure.md")
SUITE, SETUP_ONLY, SAVE, COMPARE, SCRIPT = PAGE.commands


def test_a_suite_of_a_users_own_has_the_fixtures_wherever_it_lies(
    project: Project,
) -> None:
    """A step of a run each; builds are set-up, runs are calls."""
    project.write(PAGE, "test_mine.py")
    outcome = project.run(SUITE.line, "--mlperf-min-query-count=100")

    outcome.expect(SUITE.prints)
    assert outcome.code == 0
    (verdict,) = outcome.verdicts
    assert verdict.outcome == "VALID"
    assert "ERROR" not in outcome.text


def test_setup_only_builds_and_measures_nothing(project: Project) -> None:
    """Here from a wheel's layout, which has fixtures and suites inside the package."""
    project.write(PAGE, "test_mine.py")
    wheel = copy_package(project.home.parent / "wheel", as_wheel=True)
    outcome = project.run(SETUP_ONLY.line, first_on_path=wheel)

    outcome.expect(SETUP_ONLY.prints)
    assert outcome.code == 0
    assert [record.outcome for record in outcome.records] == [SET_UP, SET_UP]
    assert outcome.verdicts == []
    assert not list(outcome.home.rglob("mlperf_log_*"))


def test_the_bare_engine_is_saved_and_compared_by_pytest_benchmark(
    project: Project,
) -> None:
    """The suite that ships; no verdict is made of it."""
    for command in (SAVE, COMPARE):
        outcome = project.run(command.line)

        outcome.expect(command.prints)
        assert outcome.code == 0
        assert outcome.verdicts == []
    (saved,) = (project.home / "bare").rglob("0001_before.json")
    assert "resnet50-offline-onnxruntime-batch1" in saved.read_text()


def test_a_script_measures_a_cell_without_pytest(project: Project) -> None:
    """About ten lines; the verdict and the logs are those of the suite."""
    project.write(PAGE, "run_cell.py")
    outcome = project.run(SCRIPT.line)

    outcome.expect(SCRIPT.prints)
    assert outcome.code == 0
    (verdict,) = (project.home / "reports").rglob("verdict.json")
    assert (verdict.parent / "mlperf_log_summary.txt").is_file()
