"""Everything that can go wrong in a run ends in one cause, and the next job runs."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import PARTIAL
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles
from tests.support.processes import is_alive

STALL_S = 3.0
LIMIT_S = 120
pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One handle for all faults: each must leave it fit for the next job."""
    runner = Runner(stall_s=STALL_S, build_s=LIMIT_S)
    yield runner
    runner.close()


def note_of(job: Task) -> dict[str, object]:
    """Return what marks a run's folder as partial."""
    note: dict[str, object] = json.loads((Path(job.folder) / PARTIAL).read_text())
    return note


def fails(runner: Runner, job: Task, after: Path | None = None) -> RunFailed:
    """Run a job that must fail, then one that must not (in a folder of its own,
    ``after``); return the failure.
    """
    with pytest.raises(RunFailed) as caught:
        runner.run(job)
    died = runner.pid is None
    folder = after or Path(job.folder).parent / "next"
    honest = doubles.make_task(folder, mode=Mode.ACCURACY)
    following = runner.run(honest)

    assert following.metrics == {"acc": 100.0}
    assert not (Path(honest.folder) / PARTIAL).exists()
    failed = caught.value
    failed.add_note("died" if died else "lived")
    return failed


def notes(failed: RunFailed) -> list[str]:
    found: list[str] = failed.__notes__
    return found


FAULTS = {
    "RAISING": (
        "the run failed in phase run: RuntimeError: the third-party engine broke",
        "in raising",
    ),
    "FEWER_ROWS": ("phase run: ValueError: the output has shape", "in respond"),
    "NOT_A_NUMBER": ("phase run: ValueError: the output has a NaN", "in respond"),
    "WRONG_SHAPE": ("phase run: ValueError: the output has shape", "in respond"),
    "SLEEPING": (
        "no progress with .* issued but never completed for 3 s.*--mlperf-stall",
        "in sleeping",
    ),
    "HOLDING_THE_GIL": (
        "the run hangs: no sign of life.* for 3 s in phase run.*--mlperf-stall",
        "in holding_the_gil",
    ),
    "KILLED": (
        "ended by SIGKILL: somebody ended it.*memory ran out.*GiB.*--mlperf-batch",
        "",
    ),
    "CRASHING": ("ended by SIGSEGV: the engine crashed", "in crashing"),
    "BAD_ID": ("ended by SIGSEGV: .*under an id that LoadGen never gave", "in bad_id"),
}
"""Engine -> what its cause says, and what its stacks show."""


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SINGLE_STREAM])
@pytest.mark.parametrize("engine", list(FAULTS))
def test_a_fault_in_the_run_is_named_and_the_next_job_runs(
    runner: Runner, tmp_path: Path, engine: str, scenario: Scenario
) -> None:
    """In a worker thread and in LoadGen's own: cause, stacks, a mark, a new child."""
    job = doubles.make_task(tmp_path, engine, scenario=scenario)
    failed = fails(runner, job)
    cause, stacks = FAULTS[engine]

    assert notes(failed) == ["died"]
    assert stacks in failed.stacks
    assert bool(stacks) == bool(failed.stacks)
    assert failed.cause == note_of(job)["cause"]
    assert note_of(job)["partial"] is True
    assert failed.last is not None
    assert failed.last.phase == "run"
    with pytest.raises(RunFailed, match=cause):
        raise failed


@pytest.mark.parametrize("engine", ["FEWER_ROWS", "NOT_A_NUMBER", "WRONG_SHAPE"])
def test_bad_answers_of_a_real_workload_are_named(
    runner: Runner, tmp_path: Path, engine: str
) -> None:
    """resnet50 says which output is wrong and what it should be."""
    failed = fails(runner, doubles.make_task(tmp_path, engine, benchmark="resnet50"))

    assert "in phase run: ValueError: output logits" in failed.cause
    assert "but should " in failed.cause


@pytest.mark.parametrize(
    ("scenario", "phase"),
    [(Scenario.OFFLINE, "probe"), (Scenario.SINGLE_STREAM, "warm-up")],
)
def test_an_engine_that_never_works_fails_before_loadgen(
    runner: Runner, tmp_path: Path, scenario: Scenario, phase: str
) -> None:
    """The first batch fails in the probe, or in the warm-up where nothing is probed."""
    job = doubles.make_task(tmp_path, "RAISING_EARLY", scenario=scenario)
    failed = fails(runner, job)

    assert f"failed in phase {phase}: RuntimeError: the third-party" in failed.cause
    assert "in raising_early" in failed.stacks
    assert [path.name for path in Path(job.folder).iterdir()] == [PARTIAL]


@pytest.mark.parametrize("scenario", [Scenario.OFFLINE, Scenario.SERVER])
def test_samples_completed_twice_never_make_an_accurate_run(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """Two answers in the log, or a crash where LoadGen reused the id: it is said."""
    job = doubles.make_task(tmp_path, "TWICE", scenario=scenario, mode=Mode.ACCURACY)
    failed = fails(runner, job)
    second = "in phase score: LogError: .* second, different answer for sample"
    crash = "ended by SIGSEGV: .*a sample was completed twice"

    with pytest.raises(RunFailed, match=f"{second}|{crash}"):
        raise failed


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ("UNREADABLE", "in phase probe: ValueError: sample 0 is damaged; copy the"),
        ("WORN_OUT", "in phase run: ValueError: sample .* vanished; copy the dataset"),
    ],
)
def test_a_dataset_that_does_not_load_is_named(
    runner: Runner, tmp_path: Path, data: str, cause: str
) -> None:
    """Whether it is the probe that asks for it or LoadGen itself."""
    job = doubles.make_task(tmp_path, benchmark=data)
    failed = fails(runner, job)

    assert notes(failed) == ["died"]
    assert "in load" in failed.stacks
    assert failed.cause == note_of(job)["cause"]
    with pytest.raises(RunFailed, match=cause):
        raise failed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchmark": "NOT_HERE"}, "numbers.npz not found; download it"),
        ({"engine": "UNAVAILABLE"}, "not plugged in; plug it in"),
    ],
)
def test_what_is_missing_is_no_failure(
    runner: Runner, tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    """The item will be skipped for that reason; the child lives on, nothing is left."""
    runner.run(doubles.make_task(tmp_path / "before", mode=Mode.ACCURACY))
    pid = runner.pid
    job = doubles.make_task(tmp_path, **changes)  # type: ignore[arg-type]
    with pytest.raises(RequirementMissing, match=reason):
        runner.run(job)

    assert pid == runner.pid
    assert not Path(job.folder).exists()
    assert runner.run(doubles.make_task(tmp_path / "next", mode=Mode.ACCURACY))
    assert pid == runner.pid


def test_a_folder_that_cannot_be_written_costs_one_item(
    runner: Runner, tmp_path: Path
) -> None:
    """Below a regular file nobody can write; LoadGen itself would abort."""
    (tmp_path / "file").write_text("")
    job = replace(doubles.make_task(tmp_path), folder=tmp_path / "file" / "logs")
    failed = fails(runner, job, tmp_path / "next")

    assert notes(failed) == ["lived"]
    assert f"cannot write LoadGen's logs into {job.folder}: Not a dir" in failed.cause
    assert "--mlperf-reports DIR" in failed.cause
    assert failed.stacks == ""


def test_a_failed_build_costs_one_item(runner: Runner, tmp_path: Path) -> None:
    """The engine's own words, without a traceback; the child lives on."""
    failed = fails(runner, doubles.make_task(tmp_path, "BUILD_FAILS"))

    assert notes(failed) == ["lived"]
    assert failed.stacks == ""
    assert (
        failed.cause
        == "the run failed in phase build: no kernel for this machine; use fp32"
    )


def test_a_precision_the_engine_lacks_is_refused(
    runner: Runner, tmp_path: Path
) -> None:
    """A slip of the pen fails: skipped, every item of a session would be green."""
    tuning = replace(doubles.QUICK, precision="fp4")
    failed = fails(runner, doubles.make_task(tmp_path, tuning=tuning))

    assert notes(failed) == ["lived"]
    assert "no precision 'fp4'; it has fp32, int8: choose with" in failed.cause


def test_an_engine_may_replace_a_default_precision(
    runner: Runner, tmp_path: Path
) -> None:
    """A device that has fp16 where the benchmark says fp32 runs, and says so."""
    tuning = replace(doubles.QUICK, precision=None)
    done = runner.run(doubles.make_task(tmp_path, "OTHER_PRECISION", tuning=tuning))

    assert done.facts.to_texts()["precision"] == "fp16"


def test_generated_data_have_no_accuracy(runner: Runner, tmp_path: Path) -> None:
    """The item is skipped with what to run instead, never scored."""
    job = doubles.make_task(tmp_path, mode=Mode.ACCURACY, workload="generated")

    with pytest.raises(
        RequirementMissing, match=r"has no accuracy.*--mlperf-workload embedded"
    ):
        runner.run(job)


def test_more_queries_than_memory_holds_are_refused(
    runner: Runner, tmp_path: Path
) -> None:
    """An absurd rate ends before LoadGen lists its queries; the child lives on."""
    tuning = replace(doubles.QUICK, target_qps=1e12)
    failed = fails(runner, doubles.make_task(tmp_path, tuning=tuning))

    assert notes(failed) == ["lived"]
    assert "LoadGen would prepare 1,100,000,000,000" in failed.cause
    assert "lower --mlperf-target-qps" in failed.cause


def test_ctrl_c_ends_the_child_and_keeps_what_there_is(
    runner: Runner, tmp_path: Path
) -> None:
    """The interrupt goes on, the child is gone, the folder is marked as partial."""
    pids: list[int] = []

    def interrupt(beat: Heartbeat) -> None:
        if beat.phase == "run" and beat.issued:
            assert runner.pid is not None
            pids.append(runner.pid)
            raise KeyboardInterrupt

    job = doubles.make_task(tmp_path, "SLEEPING")
    with pytest.raises(KeyboardInterrupt):
        runner.run(job, interrupt)
    kept = {path.name for path in Path(job.folder).iterdir()}

    assert not is_alive(pids[0])
    assert runner.pid is None
    assert note_of(job)["cause"] == "interrupted by the user"
    assert "440 samples issued, 0 completed" in str(note_of(job)["last"])
    assert {"mlperf_log_detail.txt", "user.conf", PARTIAL} <= kept
    assert runner.run(doubles.make_task(tmp_path / "next", mode=Mode.ACCURACY))


def test_a_full_disk_is_one_sentence(runner: Runner, tmp_path: Path) -> None:
    """An engine's cache may be on another file system than the reports."""
    failed = fails(runner, doubles.make_task(tmp_path, "FILLS_THE_DISK"))

    assert "phase run: no room for /cache/x (No space left on device): free" in (
        failed.cause
    )
    assert failed.stacks == ""


@pytest.mark.parametrize("engine", ["ALLOCATES_A_TEBIBYTE", "CRASHING"])
def test_a_limit_on_the_address_space_is_named(tmp_path: Path, engine: str) -> None:
    """NumPy cannot allocate, and some libraries crash; neither says why."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 38, before[1]))
    runner = Runner(stall_s=STALL_S, build_s=LIMIT_S)
    try:
        failed = fails(runner, doubles.make_task(tmp_path, engine))
    finally:
        runner.close()
        resource.setrlimit(resource.RLIMIT_AS, before)

    assert str(failed).splitlines()[1] == (
        "address space: 262144 MiB a process (ulimit -v); ulimit -v unlimited: "
        "memory that engines only reserve counts too"
    )


def test_a_path_the_locale_cannot_encode_is_one_sentence(
    runner: Runner, tmp_path: Path
) -> None:
    """Python shows such bytes as surrogates, which LoadGen's binding refuses."""
    task = doubles.make_task(tmp_path)
    folder = tmp_path / os.fsdecode(b"j\xf6rg")
    failed = fails(runner, replace(task, folder=folder), tmp_path / "next")

    assert notes(failed) == ["lived"]
    assert "this locale cannot encode the path; set LC_ALL=C.UTF-8" in failed.cause
