"""The parent's end of a runner: life of the child, heartbeats, the watchdog."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner import watchdog
from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import OpenTask
from pytest_mlperf.runner.messages import TuneTask
from pytest_mlperf.runner.runner import PARTIAL
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.runner.watchdog import Watch
from pytest_mlperf.runner.watchdog import progress_text
from tests.support import doubles
from tests.support.processes import is_alive


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(stall_s=60, build_s=60, log=tmp_path / "runner.log")
    yield runner
    runner.close()


@dataclass
class Clock:
    """Stands in for the ``time`` module of the watchdog."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    return clock


def new_watch() -> Watch:
    return Watch(10, 100, _changed=0.0, _heard=0.0, _worked=0.0, _awake=0.0)


def pass_time(clock: Clock, watch: Watch, until: float) -> str | None:
    """Return the complaint at a time; the watchdog looks every second meanwhile."""
    complaint = None
    while clock.now < until:
        clock.now = min(clock.now + 1, until)
        complaint = watch.complaint()
    return complaint


def watched(clock: Clock, *beats: tuple[float, Heartbeat], at: float) -> str | None:
    """Return the complaint at a time, after beats at theirs; stall 10 s, build 100."""
    watch, clock.now = new_watch(), 0.0
    for when, beat in beats:
        pass_time(clock, watch, when)
        watch.see(beat)
    return pass_time(clock, watch, at)


RUNNING = Heartbeat("run", issued=10, completed=4)
RESTING = Heartbeat("run", issued=10, completed=10)


def resting(work: int = 0, rest_s: float = 0.0) -> Heartbeat:
    return replace(RESTING, work=work, longest_rest_s=rest_s)


@pytest.mark.parametrize(
    "beats",
    [
        # Builds and downloads may be silent for long.
        [(1.0, Heartbeat("build"))],
        [(1.0, Heartbeat("open"))],
        [(float(t), Heartbeat("build", cpu_s=t // 8)) for t in range(1, 99)],
        # A probe shows life by its marks.
        [(float(t), Heartbeat("probe", marks=t)) for t in range(1, 99, 4)],
        # A run shows it by what it completes.
        [(float(t), Heartbeat("run", issued=99, completed=t)) for t in range(1, 99, 4)],
        # A light load rests between two queries,
        [(float(t), resting(rest_s=100)) for t in range(1, 99)],
        # and LoadGen takes its time to list them beforehand and to write its logs
        # afterwards.
        [(float(t), resting(t // 8)) for t in range(1, 99)],
        [(float(t), Heartbeat("run", work=t)) for t in range(1, 99)],
    ],
)
def test_the_watchdog_lets_slow_runs_be(
    clock: Clock, beats: list[tuple[float, Heartbeat]]
) -> None:
    """Nothing is said of what is rightly quiet for 99 s."""
    assert watched(clock, *beats, at=99) is None


@pytest.mark.parametrize(
    ("beats", "at", "text"),
    [
        ([], 300, "no sign of life for 300 s in phase start.*--mlperf-stall SECONDS"),
        ([(1.0, Heartbeat("build"))], 101, "no sign of life for 100 s in phase build"),
        (
            [(float(t), Heartbeat("build", cpu_s=t)) for t in range(1, 120)],
            120,
            r"no progress for 100 s in phase build.*--mlperf-build-timeout SECONDS",
        ),
        (
            [(float(t), Heartbeat("open", cpu_s=7)) for t in range(1, 12)],
            11.5,
            "no progress, and no CPU time used, for 10 s in phase open.*--mlperf-stall",
        ),
        ([(1.0, Heartbeat("probe"))], 11, "no sign of life for 10 s in phase probe"),
        ([(1.0, Heartbeat("run"))], 11, "no sign of life for 10 s in phase run"),
        ([(1.0, RESTING)], 11, "no sign of life for 10 s in phase run"),
        (
            [(float(t), RUNNING) for t in range(1, 12)],
            11.5,
            "no progress with 6 samples issued but never .* 10 s .*--mlperf-stall",
        ),
        (
            [(float(t), resting(t)) for t in range(1, 102)],
            101.5,
            r"no progress for 100 s in phase run.*--mlperf-build-timeout SECONDS",
        ),
        # LoadGen waits for what never comes.
        (
            [(float(t), RESTING) for t in range(1, 12)],
            11.5,
            r"LoadGen issues nothing and writes nothing for 10 s .*--mlperf-stall",
        ),
        (
            [(float(t), Heartbeat("run", work=7)) for t in range(1, 12)],
            11.5,
            r"LoadGen issues nothing and writes nothing for 10 s .*--mlperf-stall",
        ),
        (
            [(float(t), resting(rest_s=40)) for t in range(1, 42)],
            41.5,
            r"LoadGen issues nothing and writes nothing for 40 s .*--mlperf-stall",
        ),
    ],
)
def test_the_watchdog_names_what_is_quiet_and_how_to_wait_longer(
    clock: Clock, beats: list[tuple[float, Heartbeat]], at: float, text: str
) -> None:
    """A silent child and one that gets nothing done are told apart."""
    complaint = watched(clock, *beats, at=at)

    assert complaint is not None
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(complaint)


def test_half_a_message_is_no_silent_build(clock: Clock) -> None:
    """An engine's build may keep the GIL for long, but not in the middle of a send."""
    watch = new_watch()
    watch.see(Heartbeat("build"))
    pass_time(clock, watch, 50)
    complaint = watch.complaint(49.5)

    assert watch.complaint() is None
    assert complaint is not None
    assert "no sign of life, in the middle of a message, for 10 s" in complaint


def part(
    number: int, *, owed: int = 0, progress: int = 0, asked: bool = False
) -> DeviceStatus:
    return DeviceStatus(
        f"device {number}", 100 + number, "stacks.txt", owed, progress, asked
    )


@pytest.mark.parametrize(
    "beat", [RUNNING, replace(RUNNING, devices=(part(0, owed=6),))]
)
def test_time_in_which_the_machine_stood_still_does_not_count(
    clock: Clock, beat: Heartbeat
) -> None:
    """A job that is suspended for an hour goes on; the rest of its patience with it."""
    watch = new_watch()
    watch.see(beat)
    before = pass_time(clock, watch, 8)
    clock.now += 3600
    watch.see(beat)
    after = watch.complaint()
    later = pass_time(clock, watch, clock.now + 3)

    assert before is None
    assert after is None
    assert later is not None
    assert "no progress" in later


def test_progress_after_a_rest_starts_a_new_patience(clock: Clock) -> None:
    """A query that comes after a long rest has the whole stall time to be answered."""
    beats = [(float(t), resting(rest_s=60)) for t in range(1, 50)]
    busy = Heartbeat("run", issued=11, completed=10)

    assert watched(clock, *beats, (50.0, busy), (59.0, busy), at=59.5) is None
    assert watched(clock, *beats, (50.0, busy), (59.0, busy), at=60.5) is not None


def test_the_watchdog_names_the_one_device_that_gets_nothing_done(
    clock: Clock,
) -> None:
    """The others' progress is no excuse, and to owe ever more is no progress."""
    beats = [
        (
            float(t),
            Heartbeat(
                "run",
                issued=9 * t,
                completed=t,
                devices=(part(0, owed=8, progress=t), part(1, owed=8 * t, progress=5)),
            ),
        )
        for t in range(1, 12)
    ]
    complaint = watched(clock, *beats, at=11.5)

    assert complaint is not None
    assert "no progress of device 1 with 88 samples handed to it" in complaint
    assert "for 10 s in phase run" in complaint


@pytest.mark.parametrize(
    ("parts", "rest_s"),
    [
        # Nothing to do is no hang, nor are samples that are loaded.
        ((part(0, progress=3), part(1, progress=3)), 100),
        ((part(0, progress=3), part(1, progress=3, asked=True)), 0),
    ],
)
def test_a_device_that_owes_nothing_may_be_quiet(
    clock: Clock, parts: tuple[DeviceStatus, ...], rest_s: float
) -> None:
    """A light load leaves devices idle."""
    beat = replace(resting(rest_s=rest_s), devices=parts)
    beats = [(float(t), beat) for t in range(1, 99)]

    assert watched(clock, *beats, at=99) is None


def test_a_build_that_hangs_names_the_device_that_has_not_answered(
    clock: Clock,
) -> None:
    """It is given the time of a build."""
    parts = (part(0, progress=3), part(1, progress=3, asked=True))
    beats = [(float(t), Heartbeat("build", devices=parts)) for t in range(1, 120)]
    complaint = watched(clock, *beats, at=120)

    assert complaint is not None
    assert "no progress of device 1 for 100 s in phase build" in complaint


def test_a_failed_run_says_cause_last_life_logs_and_stacks() -> None:
    """The text of the exception is the whole report of the item."""
    last = Heartbeat("run", issued=1200, completed=1100, elapsed_s=3.25)
    failed = RunFailed("it broke", folder=Path("logs/x"), last=last, stacks="File here")

    assert str(failed).splitlines() == [
        "it broke",
        f"last sign of life: {progress_text(last)}",
        "logs: logs/x",
        "",
        "stacks of the runner:",
        "File here",
    ]
    assert progress_text(Heartbeat("")) == "phase start after 0.0 s"
    assert "1,200 samples issued, 1,100 completed" in progress_text(last)


@pytest.mark.parametrize("mode", list(Mode))
def test_heartbeats_tell_every_phase_in_order(
    runner: Runner, tmp_path: Path, mode: Mode
) -> None:
    """The parent hears of each phase as it begins; counters never fall in a run."""
    beats: list[Heartbeat] = []
    job = doubles.make_task(
        tmp_path, "SLOW_SAMPLE", mode=mode, scenario=Scenario.SERVER, seconds=0.6
    )
    runner.run(job, beats.append)
    phases = list(dict.fromkeys(beat.phase for beat in beats))
    running = [b for b in beats if b.phase == "run" and b.total]
    counts = [(b.issued, b.completed) for b in running]

    assert phases == [
        "open",
        "build",
        "probe",
        "check",
        "warm-up",
        "run",
        "record" if mode is Mode.PERFORMANCE else "score",
    ]
    assert sorted(counts) == counts
    if mode is Mode.PERFORMANCE:
        assert counts[-1] > (0, 0)
        # What early stopping needs at p99, more than 0.6 s at 400 queries/s.
        assert {b.total for b in running} == {459}
        # No query is called late that LoadGen does not call so.
        late = [one.late for b in running for one in b.latencies]
        logged = Log.read(job.folder).integer("result_overlatency_query_count")
        assert late
        assert late == sorted(late)
        assert late[-1] <= logged


def test_a_child_lives_from_the_first_job_to_close(
    runner: Runner, tmp_path: Path
) -> None:
    """No process before, one for all jobs, none and no folder afterwards.

    Wrong files are told in the benchmark's words alone, and do not end it.
    """
    pids = [runner.pid]
    damaged = doubles.make_task(tmp_path, benchmark="DAMAGED")
    with pytest.raises(RunFailed) as caught:
        runner.obey(OpenTask(damaged))
    for _ in range(2):
        pids.append(runner.pid)
        runner.run(doubles.make_task(tmp_path, mode=Mode.ACCURACY))
    child, scratch = runner.pid, runner._scratch
    assert child is not None
    assert scratch is not None
    lived = is_alive(child) and scratch.path.is_dir()
    runner.close()
    runner.close()
    pids.append(runner.pid)

    assert pids == [None, child, child, None]
    assert caught.value.cause == (
        "the run failed in phase open: numbers.npz is cut off; download it again"
    )
    assert not caught.value.stacks
    assert lived
    assert not is_alive(child)
    assert not scratch.path.exists()


def test_a_child_that_died_between_jobs_is_replaced(
    runner: Runner, tmp_path: Path
) -> None:
    """The next job runs in a new child, as if nothing had happened."""
    runner.run(doubles.make_task(tmp_path, mode=Mode.ACCURACY))
    first = runner.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    doubles.await_true(lambda: not is_alive(first), "the child's end")
    done = runner.run(doubles.make_task(tmp_path, mode=Mode.ACCURACY))

    assert done.metrics == {"acc": 100.0}
    assert first != runner.pid


def test_the_child_has_the_devices_environment_and_a_log(tmp_path: Path) -> None:
    """What the engine prints is kept, and it sees the variables of its device."""
    log = tmp_path / "runner.log"
    runner = Runner(stall_s=60, log=log, environment={"DOUBLE_SAYS": "device 3"})
    runner.run(doubles.make_task(tmp_path, "TALKING", mode=Mode.ACCURACY))
    runner.close()

    assert set(log.read_text().splitlines()) == {"engine says device 3"}


@pytest.mark.parametrize("error", [TimeoutError("too slow"), SystemExit("enough")])
def test_whatever_interrupts_the_parent_ends_the_job(
    runner: Runner, tmp_path: Path, error: BaseException
) -> None:
    """A half-done job's answer is never taken for that of the next job."""
    pids: list[int] = []

    def interrupt(beat: Heartbeat) -> None:
        if beat.phase == "run":
            assert runner.pid is not None
            pids.append(runner.pid)
            raise error

    job = doubles.make_task(tmp_path / "a", "SLEEPING")
    with pytest.raises(type(error)):
        runner.run(job, interrupt)
    note = json.loads((Path(job.folder) / PARTIAL).read_text())
    done = runner.run(doubles.make_task(tmp_path / "b", mode=Mode.ACCURACY))

    assert not is_alive(pids[0])
    assert f"interrupted by {type(error).__name__}: {error}" == note["cause"]
    assert done.metrics == {"acc": 100.0}


def test_streams_are_warm_in_a_trial_of_the_probe(
    runner: Runner, tmp_path: Path
) -> None:
    """What an engine does once for a batch size would be the trial's p99."""
    task = doubles.make_task(
        tmp_path,
        "RECORDING",
        scenario=Scenario.SERVER,
        tuning=Tuning(batch=4, streams=1, threads=1, precision="fp32"),
    )
    found = runner.obey(TuneTask(task))

    assert found.target_qps
