"""A power session's phases over written logs: what is repeated, and at which load."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.power_phase import PhaseRuns
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning import saved
from tests.support import doubles
from tests.support import judging
from tests.support import logs
from tests.support.cells import cell_of

GOOD = logs.rising(66_000, 5_000_000, 12_000_000)
LATE = judging.SLOW
UNPROVEN = [*GOOD[:700], 16_000_000, 16_000_000]
"""Few enough late queries for the percentile, and too few queries to prove it."""
PROBED = Tuned(Streams(1, 1), 1, target_qps=110.0)
Latencies = Sequence[int]


class Scripted:
    """Runs tasks: each writes the next story's logs, or fails where that is None."""

    def __init__(self, stories: Sequence[Latencies | None]) -> None:
        self.stories, self.tasks = stories, list[Task]()

    def __call__(self, task: Task) -> Verdict:
        task.folder.mkdir(parents=True, exist_ok=True)
        story = self.stories[len(self.tasks)]
        self.tasks.append(task)
        if story is None:
            raise RunFailed("the engine broke", folder=task.folder)
        logs.performance(task.folder, "Server", latencies=story)
        saved.write(task.folder, task.tuned or PROBED)
        return judging.verdict(task.folder, "Server")


Measure = Callable[..., tuple[Verdict, list[Task]]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    def measure_both(
        *stories: Latencies | None, retargets: bool = True
    ) -> tuple[Verdict, list[Task]]:
        """Return the session's verdict, and what ran: phases are told by folder."""
        scripted = Scripted(stories)
        runs = PhaseRuns(scripted, retargets=retargets)
        task = doubles.make_task(tmp_path)
        cell = cell_of("resnet50", "", Scenario.SERVER)
        folders = (tmp_path / "ranging", tmp_path / "performance")
        first, tested = (replace(task, cell=cell, folder=one) for one in folders)
        ranged, ranging = runs.range(first)
        ranged = runs.follow(ranged, ranging) or ranged
        return runs.test(replace(tested, tuned=ranged.tuned)), scripted.tasks

    return measure_both


def name_folders(tasks: Sequence[Task]) -> list[str]:
    return [task.folder.name for task in tasks]


def test_good_phases_run_once(measure: Measure) -> None:
    verdict, tasks = measure(GOOD, GOOD)

    assert verdict.valid
    assert name_folders(tasks) == ["ranging", "performance"]
    assert not {RETARGETED, "power phase"} & set(verdict.facts)


def test_another_load_is_ranged_before_it_is_tested(measure: Measure) -> None:
    """The tested run may not use less than ranging did: three runs, not four."""
    verdict, tasks = measure(LATE, GOOD, GOOD)
    loads = [(task.tuned or PROBED).target_qps or 0.0 for task in tasks]

    assert name_folders(tasks) == ["ranging", "ranging-2", "performance"]
    assert loads[0] > loads[1] == loads[2]
    assert verdict.valid
    assert verdict.facts[RETARGETED].startswith("retargeted: target_qps 110.0 to ")
    assert verdict.facts[RETARGETED].endswith("/ranging")


def test_a_longer_run_is_not_ranged_again(measure: Measure) -> None:
    """It has the load of the ranging run."""
    verdict, tasks = measure(UNPROVEN, GOOD)

    assert name_folders(tasks) == ["ranging", "performance"]
    assert tasks[1].tuned is not None
    assert (tasks[1].tuned.queries or 0) > len(UNPROVEN)
    assert verdict.facts[RETARGETED].startswith("retargeted: queries the least to ")


@pytest.mark.parametrize(("story", "changes"), [(LATE, False), (UNPROVEN, True)])
def test_a_tested_run_is_repeated_at_its_load(
    measure: Measure, story: Latencies, *, changes: bool
) -> None:
    """Where its remedy is another one, that takes a session of its own."""
    verdict, tasks = measure(GOOD, story, GOOD)

    assert name_folders(tasks) == ["ranging", "performance", "performance-2"]
    assert bool(tasks[2].tuned and tasks[2].tuned.queries) == changes
    assert (tasks[2].tuned is not None) == changes
    assert (RETARGETED in verdict.facts) == changes
    assert verdict.facts["power phase"].startswith("attempt 2 of 2: ")


def test_a_remedy_is_applied_once_in_a_session(measure: Measure) -> None:
    """The second late run is the item's."""
    verdict, tasks = measure(LATE, LATE, LATE, LATE)

    assert len({task.tuned and task.tuned.target_qps for task in tasks[1:]}) == 1
    assert len(tasks) == 4
    assert not verdict.valid
    assert verdict.facts[RETARGETED].endswith("/ranging")


def test_nothing_is_changed_unless_asked(measure: Measure) -> None:
    verdict, tasks = measure(LATE, GOOD, retargets=False)

    assert name_folders(tasks) == ["ranging", "performance"]
    assert RETARGETED not in verdict.facts


def test_a_phase_that_failed_runs_once_more_and_no_third_time(measure: Measure) -> None:
    verdict, tasks = measure(None, GOOD, GOOD)

    assert name_folders(tasks) == ["ranging", "ranging-2", "performance"]
    assert verdict.valid
    with pytest.raises(RunFailed, match="the engine broke"):
        measure(GOOD, None, None)
