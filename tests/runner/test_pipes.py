"""Engines that damage the pipe or leave processes cost one item, and stop nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import DeviceSlot
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import calls
from tests.support import doubles
from tests.support import pipe_doubles
from tests.support.processes import is_alive

ROOT = Path(__file__).resolve().parents[2]
STALL_S = 3.0
CPUS = sorted(os.sched_getaffinity(0))
BOTH = (
    DeviceSlot("first", (CPUS[0],)),
    DeviceSlot("second", (CPUS[-1],), {calls.FAULTY: "1"}),
)
pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The file with the process id of what an engine leaves behind."""
    return tmp_path / "left"


@pytest.fixture
def runner(tmp_path: Path, left: Path) -> Iterator[Runner]:
    runner = Runner(
        stall_s=STALL_S,
        build_s=600,
        log=tmp_path / "runner.log",
        environment={pipe_doubles.LEFT: str(left)},
    )
    yield runner
    runner.close()


DAMAGED = "the runner's pipe is damaged: "
FAULTS = {
    "WRITES_TEXT": rf"{DAMAGED}found b'loss: 0.25.*wh.* a message should begin",
    "WRITES_HUGE_SIZE": rf"{DAMAGED}found b'.x7f.xff.xff.xff",
    "WRITES_OUR_MARK": rf"{DAMAGED}found a message of 2,122,219,134 bytes, but 67,10",
    "STOPS_MIDWAY": (
        "the run hangs: no sign of life, in the middle of a message, for 3 s in phase"
        ".*a signal .SIGSTOP. had stopped process"
    ),
    "CLOSES_PIPE": "the runner exited with status 70",
    "LOSES_ANSWERS": (
        "the run hangs: LoadGen issues nothing and writes nothing for 3 s in phase "
        "run.*--mlperf-stall SECONDS"
    ),
}
"""Engine -> what its cause says."""


@pytest.mark.parametrize(
    ("engine", "scenario"),
    [(engine, Scenario.OFFLINE) for engine in FAULTS]
    # In LoadGen's own thread:
    + [(engine, Scenario.SINGLE_STREAM) for engine in ("WRITES_TEXT", "LOSES_ANSWERS")],
)
def test_a_damaged_pipe_costs_one_item(
    runner: Runner, tmp_path: Path, engine: str, scenario: Scenario
) -> None:
    """It is named within the stall limit, and the next item gets a fresh child."""
    name = pipe_doubles.spec(engine)
    task = doubles.make_task(tmp_path / "a", name, scenario=scenario)
    with pytest.raises(RunFailed, match=FAULTS[engine]):
        runner.run(task)
    after = runner.run(doubles.make_task(tmp_path / "b", mode=Mode.ACCURACY))

    assert after.metrics == {"acc": 100.0}


@pytest.mark.parametrize(
    ("engine", "cause"),
    [
        ("BUILD_STOPS", "a signal .SIGSTOP. had stopped process"),
        ("BUILD_WAITS", "raise --mlperf-stall SECONDS"),
    ],
)
def test_a_build_that_does_nothing_is_stalled(
    runner: Runner, tmp_path: Path, engine: str, cause: str
) -> None:
    """Long before the build's time is over."""
    task = doubles.make_task(tmp_path / "a", pipe_doubles.spec(engine))
    idle = "no progress, and no CPU time used, for 3 s in phase build"
    with pytest.raises(RunFailed, match=f"{idle}.*{cause}"):
        runner.run(task)


def test_a_build_whose_compiler_works_is_not_stalled(
    runner: Runner, tmp_path: Path
) -> None:
    """For longer than the stall time nothing is heard of it but that it uses a CPU."""
    name = pipe_doubles.spec("BUILD_WORKS")
    result = runner.run(doubles.make_task(tmp_path, name, mode=Mode.ACCURACY))

    assert result.build


DEVICE_FAULTS = {
    "ONE_WRITES_TEXT": r"device 1 \(second\): its pipe is damaged: found b'loss",
    "ONE_STOPS_MIDWAY": (
        r"no progress of device 1 \(second\) with 8 samples handed to it"
        ".*a signal .SIGSTOP. had stopped process"
    ),
    "ONE_CLOSES_PIPE": r"device 1 \(second\) exited with status (0|70)",
}


@pytest.mark.parametrize("engine", list(DEVICE_FAULTS))
def test_a_damaged_pipe_of_a_device_names_it(
    runner: Runner, tmp_path: Path, engine: str
) -> None:
    """The device's process is as strange as the runner's, and is treated alike."""
    name = pipe_doubles.spec(engine)
    pids: set[int] = set()

    def note(beat: Heartbeat) -> None:
        pids.update(part.pid for part in beat.devices)

    with pytest.raises(RunFailed, match=DEVICE_FAULTS[engine]):
        runner.run(doubles.make_task(tmp_path / "a", name, slots=BOTH), note)
    after = doubles.make_task(tmp_path / "b", slots=BOTH, mode=Mode.ACCURACY)

    assert runner.run(after).metrics == {"acc": 100.0}
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize(
    "engine", ["LEAVES_A_DAEMON", "LEAVES_AND_CRASHES", "LEAVES_AND_HANGS"]
)
def test_what_an_engine_leaves_behind_ends_with_its_runner(
    runner: Runner, tmp_path: Path, left: Path, engine: str
) -> None:
    """In a session of its own, without our environment; nobody else's process ends."""
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    scenario = Scenario.OFFLINE
    task = doubles.make_task(tmp_path, pipe_doubles.spec(engine), scenario=scenario)
    task = replace(task, tuning=replace(doubles.QUICK, batch=512))
    try:
        if engine == "LEAVES_A_DAEMON":
            runner.run(task)
            assert is_alive(int(left.read_text()))
            runner.close()
        else:
            with pytest.raises(RunFailed):
                runner.run(task)
        assert not is_alive(int(left.read_text()))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


PARENT = """
import sys
from pathlib import Path
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles, pipe_doubles

def tell(beat):
    if beat.phase == "run" and beat.issued and Path(sys.argv[1]).exists():
        print(runner.pid, flush=True)

runner = Runner(stall_s=600, environment={pipe_doubles.LEFT: sys.argv[1]})
engine = pipe_doubles.spec("LEAVES_AND_HANGS")
runner.run(doubles.make_task(Path(sys.argv[2]), engine), tell)
"""


def test_what_an_engine_leaves_behind_ends_with_pytest(
    tmp_path: Path, left: Path
) -> None:
    """Killed in the middle of a run, nobody is there to end the tree but its guard."""
    command = [sys.executable, "-c", PARENT, str(left), str(tmp_path)]
    path = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env=path
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        daemon = int(left.read_text())
        assert is_alive(daemon)
        parent.kill()

    doubles.await_true(lambda: not is_alive(child), "the child's end")
    doubles.await_true(lambda: not is_alive(daemon), "the daemon's end")
