"""Compliance runs: what they are compared with, how often, and through real LoadGen."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from typing import cast

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.residency.rules import DirectPath
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine.system import System
from pytest_mlperf.machine.system_file import TuningTables
from pytest_mlperf.measure.audit import ATTEMPTS
from pytest_mlperf.measure.audit import find_audit
from pytest_mlperf.measure.audit import find_basis
from pytest_mlperf.measure.audit import run_audit
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.judged_run import write_verdict
from pytest_mlperf.measure.placement import Placement
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning import saved
from tests.support import doubles
from tests.support import logs
from tests.support.audits import FOUND
from tests.support.audits import SAME
from tests.support.audits import outcome
from tests.support.audits import rule_of
from tests.support.cells import cell_of

CELL = cell_of("resnet50", "", Scenario.OFFLINE, "null", "v6.1")
OFFICIAL = Options(workload="official", scratch=Path("/data"))
TUNED = Tuned(Streams(1, 1), batch=8)

Make = Callable[..., Verdict]


def kept(home: Path, make: Make, kind: str, *, number: int = 1, **changes: Any) -> Path:
    """Write a finished run's verdict and tuning; a higher number is a newer run."""
    wanted = logs_folder(home, CELL, kind)
    folder = wanted.with_name(f"{kind}-{number}") if number > 1 else wanted
    folder.mkdir(parents=True)
    fields = {"mode": kind, "round": "v6.1", "build": "b1", "folder": str(folder)}
    write_verdict(make(**{**fields, **changes}))
    os.utime(folder / VERDICT_FILE, (number, number))
    saved.write(folder, TUNED)
    return folder


TEST01 = find("TEST01", rule_of("resnet50"))
BAD = Check("latency", Status.FAIL, "20 ms", "15 ms", "summary:7")


def test_the_newest_valid_runs_of_one_build_are_the_reference(
    tmp_path: Path, make_verdict: Make
) -> None:
    """Performance again after an accuracy run: both newest, both of build b1."""
    kept(tmp_path, make_verdict, "performance")
    second = kept(tmp_path, make_verdict, "performance", number=2)
    accuracy = kept(tmp_path, make_verdict, "accuracy")
    kept(tmp_path, make_verdict, "performance", number=3, checks=(BAD,))
    basis = find_basis(OFFICIAL, tmp_path, CELL, TEST01)

    assert basis.folders == {"performance": second, "accuracy": accuracy}
    assert basis.build == "b1"
    assert basis.tuned == TUNED


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        ({"build": "b2"}, "the VALID runs .* are of different engine builds"),
        ({"checks": (BAD,)}, "there is no VALID accuracy run"),
        ({"round": "v5.1"}, "there is no VALID accuracy run"),
        ({"labels": ("fast",)}, "there is no VALID accuracy run"),
        (None, "there is no VALID accuracy run"),
    ],
)
def test_without_a_reference_the_run_is_refused_in_words(
    accuracy: dict[str, Any] | None, said: str, tmp_path: Path, make_verdict: Make
) -> None:
    """The text says what is missing and what to select."""
    kept(tmp_path, make_verdict, "performance")
    if accuracy is not None:
        kept(tmp_path, make_verdict, "accuracy", **accuracy)

    with pytest.raises(RunRefused, match=said) as caught:
        find_basis(OFFICIAL, tmp_path, CELL, TEST01)
    if accuracy and "checks" in accuracy:
        assert "verdict of accuracy says what to change" in str(caught.value)
    else:
        assert '-k "resnet50 and offline"' in str(caught.value)
        assert "--mlperf-tree DIR" in str(caught.value)


def test_an_earlier_session_serves_when_it_is_named(
    tmp_path: Path, make_verdict: Make
) -> None:
    """Its reports folder is what --mlperf-tree names."""
    earlier = tmp_path / "earlier"
    kept(earlier, make_verdict, "performance")
    kept(earlier, make_verdict, "accuracy")
    options = replace(OFFICIAL, tree=earlier)
    basis = find_basis(options, tmp_path / "now", CELL, TEST01)

    assert logs_folder(earlier, CELL, "performance") == basis.folders["performance"]


@pytest.mark.parametrize(("ran", "asked"), [(1, 2), (2, 1)])
def test_runs_on_another_number_of_devices_are_no_reference(
    ran: int, asked: int, tmp_path: Path, make_verdict: Make
) -> None:
    """A load that one device is said to keep is not confirmed by two."""
    run = RunFacts(devices=ran)
    performance = kept(tmp_path, make_verdict, "performance", run=run)
    kept(tmp_path, make_verdict, "accuracy", run=run)
    same = find_basis(OFFICIAL, tmp_path, CELL, TEST01, ran)

    assert performance == same.folders["performance"]
    with pytest.raises(
        RunRefused, match="no VALID performance and no accuracy run"
    ) as no:
        find_basis(OFFICIAL, tmp_path, CELL, TEST01, asked)
    assert ("on 2 devices" in str(no.value)) == (asked == 2)


def test_a_run_that_cannot_say_its_tuning_is_no_reference(
    tmp_path: Path, make_verdict: Make
) -> None:
    """The compliance run has to run just as its performance run did."""
    folder = kept(tmp_path, make_verdict, "performance")
    kept(tmp_path, make_verdict, "accuracy")
    (folder / "tuning.json").unlink()

    with pytest.raises(RunRefused, match=r"tuning\.json in .* cannot be read"):
        find_basis(OFFICIAL, tmp_path, CELL, TEST01)


class Scripted:
    """A runner whose runs have the speeds it was told, one after another."""

    def __init__(self, speeds: Sequence[float]) -> None:
        self.speeds = list(speeds)
        self.jobs: list[Task] = []

    def run(self, job: Task, on_beat: Callable[[Heartbeat], None]) -> RunResult:
        """Write TEST04's logs as LoadGen would."""
        del on_beat
        self.jobs.append(job)
        speed_of(job.folder, self.speeds.pop(0), **SAME)
        settings = plan_settings(
            job.rule, job.seeds, job.mode, available=10**6, audit=job.audit,
            target_qps=9.0,
        )  # fmt: skip
        return RunResult(settings, "b1", {}, 50_000, "official", RunFacts())


def speed_of(folder: Path, figure: float, **change: object) -> Path:
    """Write an Offline run whose samples a second are about this."""
    latencies = logs.rising(int(700 * figure), 1_000_000, 700_000_000_000)
    warnings = [FOUND] if change else []
    return logs.performance(
        folder, "Offline", latencies=latencies, change=change, warnings=warnings
    )


def attempted(
    tmp_path: Path, make: Make, speeds: Sequence[float], **options: Any
) -> tuple[Verdict, Scripted]:
    """Return TEST04's verdict beside a performance run of 100 samples a second."""
    chosen = replace(OFFICIAL, **options)
    speed_of(kept(tmp_path, make, "performance", labels=chosen.labels), 100.0)
    tuning = TuningTables()
    system = SimpleNamespace(
        name="box", tuning=tuning, numa_note="", numa_config="", settings={},
        on_device=DirectPath(),
    )  # fmt: skip
    session = MeasureSession(chosen, cast("System", system), tmp_path)
    runner = Scripted(speeds)
    rig = Rig(session, cast("Runner", runner), Placement((0,), "CPU"))
    task = make_task_folder(rig.plan(CELL, Mode.COMPLIANCE, "TEST04"))
    verdict = run_audit(rig, task, "TEST04")
    return verdict, runner


def test_a_missed_tolerance_is_tried_again_and_told(
    tmp_path: Path, make_verdict: Make
) -> None:
    """Every attempt keeps its folder; the verdict tells of those before it."""
    verdict, runner = attempted(tmp_path, make_verdict, [130.0, 105.0])
    told = verdict.facts["attempt"]

    assert verdict.valid, verdict.explain()
    assert told.startswith(f"attempt 2 of {ATTEMPTS}: attempt 1 had 130 against 100")
    assert [job.folder.name for job in runner.jobs] == ["TEST04", "TEST04-2"]
    assert all((job.folder / VERDICT_FILE).is_file() for job in runner.jobs)


def test_attempts_are_bounded(tmp_path: Path, make_verdict: Make) -> None:
    """Three runs that are too fast are a cache."""
    verdict, runner = attempted(tmp_path, make_verdict, [130.0, 131.0, 132.0, 100.0])

    assert verdict.outcome == "INVALID"
    assert len(runner.jobs) == ATTEMPTS


@pytest.mark.parametrize("options", [{"rehearsal": True}, {"fast": True}])
def test_a_rehearsal_and_a_fast_run_are_tried_once(
    options: dict[str, bool], tmp_path: Path, make_verdict: Make
) -> None:
    """Nothing is to be submitted."""
    verdict, runner = attempted(tmp_path, make_verdict, [130.0, 100.0], **options)

    assert verdict.outcome == "INVALID"
    assert len(runner.jobs) == 1


def test_the_audited_run_has_its_performance_runs_tuning_and_build(
    tmp_path: Path, make_verdict: Make
) -> None:
    """Both travel with the job; the child probes nothing and refuses another build."""
    _, runner = attempted(tmp_path, make_verdict, [100.0])
    (job,) = runner.jobs

    assert job.audit is not None
    assert (job.tuned, job.required_build, job.audit.name) == (TUNED, "b1", "TEST04")


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """A real runner: LoadGen in a child process."""
    runner = Runner(stall_s=30)
    yield runner
    runner.close()


def prepared(runner: Runner, folder: Path) -> dict[str, Path]:
    """Run performance and accuracy of an honest engine."""
    references = {}
    for mode in (Mode.PERFORMANCE, Mode.ACCURACY):
        home = folder / mode.value
        runner.run(doubles.make_task(home, mode=mode))
        references[mode.value] = home / "logs"
    return references


def audited(folder: Path, references: dict[str, Path], **changes: Any) -> Task:
    """Return a TEST01 job tuned as its reference."""
    tuned = saved.read(references["performance"])
    return doubles.make_task(
        folder / "TEST01",
        mode=Mode.COMPLIANCE,
        audit=find("TEST01", doubles.rule_for(Scenario.OFFLINE)),
        tuned=tuned,
        references=references,
        **changes,
    )


def test_real_loadgen_samples_the_answers_of_a_performance_run(
    runner: Runner, tmp_path: Path
) -> None:
    """What an honest engine answers in performance mode is what it always answers."""
    references = prepared(runner, tmp_path)
    done = runner.run(job := audited(tmp_path, references))
    folder = job.folder
    answers, _ = verify(find("TEST01", job.rule), job.rule, folder, references)

    assert outcome([answers]) == {"compliance_accuracy": Status.PASS}
    assert (
        "accuracy_log_sampling_target = 4096" in (folder / "audit.config").read_text()
    )
    before = (references["performance"] / "user.conf").read_text()
    assert before == (folder / "user.conf").read_text()
    assert done.settings.audit_config


def test_answers_that_differ_are_scored_in_both_modes(
    runner: Runner, tmp_path: Path
) -> None:
    """An engine that is wrong in performance mode alone is found out by its score."""
    references = prepared(runner, tmp_path)
    runner.run(job := audited(tmp_path, references, engine="ALWAYS_WRONG"))
    folder = job.folder
    answers, _ = verify(find("TEST01", job.rule), job.rule, folder, references)

    assert outcome([answers]) == {"compliance_accuracy": Status.FAIL}
    assert "accuracy=0.000%" in (folder / "compliance_accuracy.txt").read_text()
    assert "accuracy=0.000%" not in (folder / "baseline_accuracy.txt").read_text()


def test_another_build_is_refused_before_loadgen_starts(
    runner: Runner, tmp_path: Path
) -> None:
    """An engine that was built again cannot speak for the one that was measured."""
    references = prepared(runner, tmp_path)
    job = audited(tmp_path, references, required_build="c" * 64)

    with pytest.raises(
        RunFailed, match=r"TEST01 found the engine build .* cccccccccccc"
    ):
        runner.run(job)
    assert not (job.folder / "mlperf_log_detail.txt").exists()


SUITES = Path(__file__).resolve().parents[2] / "suites"


def test_a_cells_items_run_in_order_and_leave_the_official_files(
    pytester: pytest.Pytester,
) -> None:
    """The real suites, end to end; only the speed of a busy machine is not asked."""
    result = pytester.runpytest_subprocess(
        str(SUITES),
        "-p",
        "no:cacheprovider",
        "--mlperf-rehearsal",
        "--mlperf-round=v6.1",
        "--mlperf-duration=2",
        f"--mlperf-reports={pytester.path}",
        "-k",
        "stable-diffusion-xl and offline",
        "-v",
    )
    verdicts = sorted(pytester.path.glob("latest/logs/*/*/verdict.json"))
    found = [Verdict.from_json(path.read_text()) for path in verdicts]
    bad = {c.name for v in found for c in v.checks if c.status is Status.FAIL}
    folders = {v.mode: Path(v.folder) for v in found}

    assert set(folders) == {"performance", "accuracy", "TEST01", "TEST04"}
    assert bad <= {"compliance_performance"}
    result.stdout.fnmatch_lines(
        [
            "*test_performance[[]stable-diffusion-xl-offline-oracle[]]*",
            "*test_accuracy[[]stable-diffusion-xl-offline-oracle[]]*",
            "*test_compliance[[]stable-diffusion-xl-offline-oracle-TEST01[]]*",
            "*test_compliance[[]stable-diffusion-xl-offline-oracle-TEST04[]]*",
            "  stable-diffusion-xl TEST01 *",
        ]
    )
    for test, files in {
        "TEST01": ("verify_accuracy.txt", "verify_performance.txt", "accuracy.txt"),
        "TEST04": ("verify_performance.txt",),
    }.items():
        assert all((folders[test] / name).is_file() for name in files)


def test_a_benchmark_of_ones_own_that_no_test_knows_is_refused_in_words() -> None:
    """A row of a round's table has TEST01 where it says nothing; it was a traceback."""
    rule = cell_of("resnet50", "", Scenario.OFFLINE).rule
    own = replace(rule, benchmark="leads", compliance=("TEST01",))
    with pytest.raises(RunRefused) as refused:
        find_audit("TEST01", own)

    assert "TEST01 has no audit.config for leads" in str(refused.value)
    assert "compliance=() in its Family" in str(refused.value)
    assert find_audit("TEST01", rule).test.name == "TEST01"
