"""An item that runs once more, because its load was the suite's own and was too much.

Real LoadGen, and an engine that stands still when it is told to. Its bound is of
seconds, so that no pause of the machine's own decides.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import NOT_REPEATED
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.baseline import Baseline
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.rig import open_rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.measure.second_run import has_own_load
from pytest_mlperf.measure.second_run import is_late_alone
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.measure.under_test import UnderTest
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import ResultsWriter
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import ServiceTuned
from pytest_mlperf.tuning import saved
from tests.support import calls
from tests.support import doubles

BOUND_S = calls.PAUSE_S - 1
OPEN = Tuning(batch=8, streams=1, threads=1, precision="fp32")
"""All but the load."""
RULE = replace(doubles.rule_for(Scenario.SERVER), target_latency_ns=int(BOUND_S * 1e9))


@dataclass
class Script:
    """Has the engine stand still once in each of the next runs; sees what is shown."""

    file: Path
    pauses: int = 0
    shown: list[Progress] = field(default_factory=list)
    last: str | None = None
    """What the run that has paused last was shown with."""

    def see(self, progress: Progress) -> None:
        """Take a heartbeat."""
        self.shown.append(progress)
        run = progress.again
        if progress.phase == "run" and self.pauses > 0 and run != self.last:
            self.last = run
            self.pauses -= 1
            self.file.touch()


@dataclass(frozen=True)
class Stand:
    """A rig whose engine pauses by a script; the load is probed once for all tests."""

    rig: Rig
    script: Script
    tmp_path: Path

    def run(self, pauses: int, **changes: Any) -> Verdict:
        """Run the cell; the engine stands still in its next ``pauses`` runs."""
        self.script.pauses, self.script.last = pauses, None
        self.script.shown.clear()
        self.script.file.unlink(missing_ok=True)
        return run_task(self.rig, make_task_folder(replace(self.task, **changes)))

    @property
    def task(self) -> Task:
        made = doubles.make_task(
            self.tmp_path, "PAUSED", rule=RULE, seconds=0.5, tuning=OPEN
        )
        return replace(
            made, folder=logs_folder(self.tmp_path, made.cell, "performance")
        )


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("second")
    script = Script(folder / "pause")
    session = MeasureSession.start(
        Options(reports=folder / "reports", cache=folder / "cache"),
        on_progress=script.see,
    )
    placement = place(session)
    environment = {**placement.environment, calls.PAUSE: str(script.file)}
    with open_rig(session, replace(placement, environment=environment)) as rig:
        yield Stand(rig, script, folder)


def list_runs(verdict: Verdict) -> list[Verdict]:
    """Return the verdicts of the cell's runs, in their order."""
    files = [*Path(verdict.folder).parent.glob(f"*/{VERDICT_FILE}")]
    files.sort(key=lambda file: file.stat().st_mtime_ns)
    return [Verdict.from_json(file.read_text()) for file in files]


@pytest.mark.usefixtures("bounded")
def test_a_late_run_at_a_load_of_the_suite_s_own_is_followed_by_a_valid_one(
    stand: Stand,
) -> None:
    """Both are told of wherever the verdict is, and their logs are kept."""
    verdict = stand.run(pauses=1)

    first, second = list_runs(verdict)[-2:]
    tuned = [saved.read(Path(one.folder)) for one in (first, second)]
    assert first.outcome == "INVALID"
    assert RETARGETED not in first.facts
    assert verdict.valid, verdict.explain()
    assert verdict.folder == second.folder != first.folder
    assert verdict.facts == second.facts
    told = verdict.facts[RETARGETED]
    assert told.startswith("retargeted: target_qps ")
    assert f"the first run was INVALID at {first.metric} (" in told
    assert told.endswith(first.folder)
    assert told in verdict.explain()
    assert (tuned[1].target_qps or 0) < (tuned[0].target_qps or 0)
    assert tuned[1].note == told.partition(";")[0]
    assert tuned[1].trials[:-1] == tuned[0].trials
    assert tuned[1].trials[-1].kind == CONFIRMATION
    again = {one.again for one in stand.script.shown}
    assert again == {"", told.removeprefix("retargeted: ")}


@pytest.mark.usefixtures("bounded")
def test_there_is_no_third_run(stand: Stand) -> None:
    before = len(list(stand.tmp_path.glob("logs/*/*")))
    verdict = stand.run(pauses=5)

    runs = list_runs(verdict)[before:]
    assert [one.outcome for one in runs] == ["INVALID", "INVALID"]
    assert verdict.outcome == "INVALID"
    assert verdict.folder == runs[1].folder
    assert verdict.run.first_run["folder"] == runs[0].folder


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("given", ["target_qps", "tuned"])
def test_a_load_that_somebody_gave_is_not_changed(stand: Stand, given: str) -> None:
    """Nor an earlier run's, by which a session is compared with another."""
    tuned = UnderTest(stand.rig, stand.task).tune()
    qps = tuned.target_qps
    changes = {"target_qps": {"tuning": replace(OPEN, target_qps=qps)}}
    before = len(list(stand.tmp_path.glob("logs/*/*")))
    verdict = stand.run(pauses=1, **changes.get(given, {"tuned": tuned}))

    assert len(list(stand.tmp_path.glob("logs/*/*"))) == before + 1
    assert verdict.outcome == "INVALID"
    assert not {RETARGETED, NOT_REPEATED} & set(verdict.facts)


@pytest.mark.usefixtures("bounded")
def test_a_second_run_for_which_there_is_no_time_is_said_to_be_none(
    stand: Stand,
) -> None:
    """It has to take longer than the first; the limit is what that took."""
    qps = UnderTest(stand.rig, stand.task).tune().target_qps or 0.0
    before = len(list(stand.tmp_path.glob("logs/*/*")))
    verdict = stand.run(pauses=1, time_limit_s=1.1 * max(0.5, 459 / qps))

    assert len(list(stand.tmp_path.glob("logs/*/*"))) == before + 1
    assert verdict.outcome == "INVALID"
    why = verdict.facts[NOT_REPEATED]
    assert why.startswith("no second run: 459 queries at ")
    assert why.endswith("--mlperf-time-limit 120 allows it")
    assert why in verdict.explain()
    assert list_runs(verdict)[-1].facts == verdict.facts


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {"mode": Mode.ACCURACY}),
        ({}, {"tuned": ServiceTuned(1)}),
        ({}, {"tuning": Tuning(target_qps=5.0)}),
        ({"repeat": 3}, {}),
        ({"stop_early": True}, {}),
        ({"rehearsal": True}, {}),
        ({"power": "meter"}, {}),
        ({"submission": Path("tree")}, {}),
    ],
)
def test_what_was_asked_for_as_it_is_runs_once(
    tmp_path: Path, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    task = doubles.make_task(tmp_path, scenario=Scenario.SERVER, tuning=OPEN)

    assert has_own_load(Options(), task)
    assert not has_own_load(Options(**options), replace(task, **changes))


def test_only_late_queries_are_a_reason(make_verdict: Callable[..., Verdict]) -> None:
    """A run that broke another rule shows that again, at any load."""

    def fail(*names: str) -> Verdict:
        checks = [Check(name, Status.FAIL, "1", "2", "log") for name in names]
        return make_verdict(checks=tuple(checks))

    assert is_late_alone(fail("early_stopping", "latency_bound", "loadgen_validity"))
    assert not is_late_alone(fail("early_stopping", "seeds"))
    assert not is_late_alone(make_verdict())
    null = replace(fail("latency_bound"), labels=("null answers",))
    assert not is_late_alone(null)


def test_a_baseline_is_run_by_the_tuning_of_the_run_that_counted(
    tmp_path: Path, make_verdict: Callable[..., Verdict]
) -> None:
    """Its first run was INVALID, and lies in the folder of that name."""
    cell = doubles.make_task(tmp_path, scenario=Scenario.SERVER).cell
    home = tmp_path / "before"
    folders = [home / "logs" / cell.file_name / f"performance{n}" for n in ("", "-2")]
    for folder, qps in zip(folders, (20.0, 10.0), strict=True):
        folder.mkdir(parents=True)
        saved.write(folder, ServiceTuned(4, target_qps=qps))
    verdict = make_verdict(
        benchmark=cell.model, scenario="Server", engine=cell.engine,
        mode="performance", folder=f"/elsewhere/{folders[1].name}",
    )  # fmt: skip
    writer = ResultsWriter(home / FILE)
    writer.open({"host": platform.node()})
    writer.add(Record("t::a", "passed", {"mode": "performance"}, verdict))
    writer.close(exitstatus=0, interrupted=False, selected=1)

    baseline = Baseline.read(str(home), tmp_path / "own")

    assert baseline.tuning_of(cell) == ServiceTuned(4, target_qps=10.0)
