"""One item over several devices: real LoadGen, a process a device, CPUs for devices."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import read_accuracy
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import DeviceSlot
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import calls
from tests.support import doubles
from tests.support.processes import is_alive

CPUS = sorted(os.sched_getaffinity(0))
NEAR, FAR = (
    DeviceSlot("first", (CPUS[0],), {"DOUBLE_SAYS": "first"}),
    DeviceSlot("second", (CPUS[-1],), {"DOUBLE_SAYS": "second", calls.FAULTY: "1"}),
)
BOTH = (NEAR, FAR)
STALL_S = 3.0
pytestmark = pytest.mark.usefixtures("bounded")


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(stall_s=STALL_S, build_s=60, log=tmp_path / "runner.log")
    yield runner
    runner.close()


def over_both(folder: Path, engine: str = "ECHO", **changes: Any) -> Task:
    """Return a job over two devices."""
    return doubles.make_task(folder, engine, **{"slots": BOTH, **changes})


def answers(job: Task) -> dict[int, bytes]:
    return read_accuracy(Path(job.folder))


def processes(parent: int) -> list[int]:
    """Return a runner's child processes."""
    path = Path(f"/proc/{parent}/task")
    found: list[int] = []
    for thread in path.iterdir():
        found += map(int, (thread / "children").read_text().split())
    return found


SECOND_NS = 1_000_000_000
SAMPLES_A_SECOND = 1 / 0.002
"""Of SLOW_SAMPLE on one device, whatever else the machine does: at most."""
SCENARIOS = [Scenario.OFFLINE, Scenario.SERVER]


REAL: dict[str, Any] = {
    "benchmark": "resnet50",
    "mode": Mode.ACCURACY,
    "tuning": replace(doubles.QUICK, target_qps=300),
}


@pytest.fixture(scope="module")
def one_device(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Task, RunResult]:
    """The real model on one device: quantised and scored once for both scenarios."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("one")
    task = doubles.make_task(folder, "onnxruntime", **REAL)
    with closing(Runner(stall_s=60, build_s=60)) as runner:
        return task, runner.run(task)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_answers_are_those_of_one_device_sample_by_sample(
    runner: Runner,
    tmp_path: Path,
    one_device: tuple[Task, RunResult],
    scenario: Scenario,
) -> None:
    """The real model, quantised once: two processes answer as one does, bit by bit."""
    one, single = one_device
    changes = {**REAL, "scenario": scenario, "cache": one.cache}
    two = over_both(tmp_path, "onnxruntime", **changes)
    double = runner.run(two)

    assert answers(one) == answers(two)
    assert single.metrics == double.metrics
    assert single.build == double.build
    assert double.facts.to_texts()["engine build"].startswith("cached")
    assert double.facts.to_texts()["devices"] == "2"


def shares(done: RunResult) -> list[tuple[int, int]]:
    """Return samples and batches of each device."""
    found = []
    for number in range(int(done.facts.to_texts()["devices"])):
        said = re.match(
            r"([\d,]+) samples in ([\d,]+) batches",
            done.facts.to_texts()[f"device {number}"],
        )
        assert said is not None
        samples, batches = (int(text.replace(",", "")) for text in said.groups())
        found.append((samples, batches))
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_sample_is_some_devices_and_the_scaling_is_said(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """Counts add up to LoadGen's; the rate stands beside twice the bare loop."""
    changes: dict[str, Any] = {
        "scenario": scenario,
        "tuning": replace(doubles.QUICK, target_qps=None),
    }
    if scenario is Scenario.SERVER:  # a busy machine may take its time
        slow = replace(doubles.rule_for(scenario), target_latency_ns=SECOND_NS)
        changes["rule"] = slow
    job = over_both(tmp_path, "SLOW_SAMPLE", **changes)
    done = runner.run(job)
    told = shares(done)
    log = Log.read(Path(job.folder))
    issued = log.number("generated_query_count")
    issued *= log.number("generated_samples_per_query")
    rate = log.number(job.rule.result_key)
    said = re.match(
        r"([\d.]+) \(([\d,.]+)/s of 2 x ([\d,.]+)/s", done.facts.to_texts()["scaling"]
    )

    assert all(batches > 0 for _, batches in told)
    assert issued == sum(samples for samples, _ in told)
    assert said is not None
    share, found, alone = (float(one.replace(",", "")) for one in said.groups())
    assert share == pytest.approx(found / (2 * alone), abs=1e-3)
    # The devices' own time is a part of LoadGen's, and a sample takes 2 ms of it.
    assert rate * 0.99 <= found <= 2 * SAMPLES_A_SECOND
    assert alone <= SAMPLES_A_SECOND
    assert float(done.facts.to_texts()["bare_loop_per_s"]) == pytest.approx(
        2 * alone, rel=1e-3
    )
    assert f"bare loop {alone:,.1f}/s x 2 devices" == done.facts.to_texts()[
        "tuning"
    ] or ("of the bare loop kept" in done.facts.to_texts()["tuning"])


def test_a_slow_device_gets_less_to_do(runner: Runner, tmp_path: Path) -> None:
    """Who is free takes the next batch: one that takes three times as long a sample
    answers the fewest, and both are at work to the end.
    """
    done = runner.run(over_both(tmp_path, "ONE_IS_SLOW"))
    quick, slow = (samples for samples, _ in shares(done))

    assert quick > slow > 0


def test_phases_are_those_of_one_device_and_both_are_watched(
    runner: Runner, tmp_path: Path
) -> None:
    """The parent hears of each phase, and in a run how each device is doing."""
    beats: list[Heartbeat] = []
    runner.run(over_both(tmp_path, "SLOW_SAMPLE"), beats.append)
    running = [beat for beat in beats if beat.phase == "run"]
    names = {tuple(part.name for part in beat.devices) for beat in running}

    phases = list(dict.fromkeys(beat.phase for beat in beats))

    assert phases[:6] == ["open", "build", "probe", "check", "warm-up", "run"]
    assert phases[6:] in ([], ["record"])  # over before it is seen, mostly
    assert names == {("device 0 (first)", "device 1 (second)")}
    assert any(all(part.owed for part in beat.devices) for beat in running)


def test_each_process_sees_its_device_alone_and_is_bound_to_its_cpus(
    runner: Runner, tmp_path: Path
) -> None:
    """Environment and CPUs are set before the engine is; each has a log of its own."""
    done = runner.run(over_both(tmp_path, "TALKING"))
    logs = [
        set((tmp_path / f"runner-device{n}.log").read_text().splitlines())
        for n in (0, 1)
    ]

    assert logs == [{"engine says first"}, {"engine says second"}]
    assert (
        f"device 0: CPUs {CPUS[0]}; device 1: CPUs {CPUS[-1]}"
        == done.facts.to_texts()["bound to"]
    )


def test_processes_are_kept_between_jobs_and_gone_with_the_runner(
    runner: Runner, tmp_path: Path
) -> None:
    """Performance and accuracy share builds; an item of one device needs none of it."""
    runner.run(over_both(tmp_path / "a"))
    assert runner.pid is not None
    first = processes(runner.pid)
    runner.run(over_both(tmp_path / "b", mode=Mode.ACCURACY))
    second = processes(runner.pid)
    runner.run(doubles.make_task(tmp_path / "c", mode=Mode.ACCURACY))
    third = processes(runner.pid)
    runner.run(over_both(tmp_path / "d", mode=Mode.ACCURACY))
    last = processes(runner.pid)
    runner.close()

    assert len(first) == 2
    assert first == second
    assert third == []
    assert len(last) == 2
    assert not any(is_alive(pid) for pid in last)


HANGS = (
    "the run hangs: no progress of device 1 (second) with 8 samples handed to it but "
    "never answered for 3 s in phase run"
)
FAULTS = {
    "ONE_RAISES": (
        "phase run: device 1 (second): RuntimeError: the third-party engine broke",
        "in raising",
    ),
    "ONE_GIVES_FEWER_ROWS": (
        "phase run: device 1 (second): ValueError: the output has shape",
        "in respond",
    ),
    "ONE_IS_KILLED": (
        "phase run: device 1 (second) was ended by SIGKILL: somebody ended it",
        "",
    ),
    "ONE_CRASHES": (
        "phase run: device 1 (second) was ended by SIGSEGV: the engine crashed",
        "in crashing",
    ),
    "ONE_SLEEPS": (
        HANGS,
        "in sleeping",
    ),
    "ONE_HOLDS_THE_GIL": (
        HANGS,
        "in holding_the_gil",
    ),
    "ONE_BUILD_FAILS": (
        "phase build: device 1 (second): no kernel for this machine",
        "",
    ),
}
"""Engine -> what the cause says, and what the stacks show."""


@pytest.mark.parametrize("engine", list(FAULTS))
def test_a_fault_of_one_device_is_one_failure_that_names_it(
    runner: Runner, tmp_path: Path, engine: str
) -> None:
    """Nothing is left running, and the next item over both gets fresh processes."""
    pids: set[int] = set()

    def note(beat: Heartbeat) -> None:
        pids.update(part.pid for part in beat.devices)

    with pytest.raises(RunFailed) as caught:
        runner.run(over_both(tmp_path / "a", engine), note)
    cause, stacks = FAULTS[engine]
    doubles.await_true(
        lambda: not any(map(is_alive, pids)), "the end of the device processes"
    )
    following = runner.run(over_both(tmp_path / "b", mode=Mode.ACCURACY))

    assert cause in caught.value.cause
    assert stacks in caught.value.stacks
    assert len(pids) == 2
    assert following.metrics == {"acc": 100.0}


def test_a_hang_is_seen_while_the_other_device_goes_on(
    runner: Runner, tmp_path: Path
) -> None:
    """Samples that one device answers are no excuse for those that the other keeps."""
    job = over_both(tmp_path, "ONE_SLEEPS", scenario=Scenario.SERVER, seconds=40)
    last: list[Heartbeat] = []
    with pytest.raises(RunFailed, match=r"no progress of device 1 \(second\)"):
        runner.run(job, last.append)

    assert last[-1].elapsed_s < 30
    assert last[-1].devices[0].progress > last[-1].devices[1].progress


def test_whatever_interrupts_the_parent_ends_all_processes(
    runner: Runner, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of a run leaves nothing at work on any device."""
    pids: set[int] = set()

    def interrupt(beat: Heartbeat) -> None:
        pids.update(part.pid for part in beat.devices)
        if beat.phase == "run":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(over_both(tmp_path, "ONE_SLEEPS"), interrupt)

    assert len(pids) == 2
    doubles.await_true(
        lambda: not any(map(is_alive, pids)), "the end of the device processes"
    )


def test_device_processes_end_with_a_runner_that_is_killed(
    runner: Runner, tmp_path: Path
) -> None:
    """Whoever kills it, and however: nobody is left to tell them to stop."""
    pids: set[int] = set()

    def kill(beat: Heartbeat) -> None:
        pids.update(part.pid for part in beat.devices)
        if beat.phase == "run" and runner.pid:
            os.kill(runner.pid, signal.SIGKILL)

    with pytest.raises(RunFailed, match="the runner was ended by SIGKILL"):
        runner.run(over_both(tmp_path, "ONE_SLEEPS"), kill)

    assert len(pids) == 2
    doubles.await_true(
        lambda: not any(map(is_alive, pids)), "the end of the device processes"
    )


def test_what_a_device_lacks_is_a_skip(runner: Runner, tmp_path: Path) -> None:
    """The reason names the device and the remedy, as for one device."""
    with pytest.raises(RequirementMissing, match=r"device 0 .*plug it in"):
        runner.run(over_both(tmp_path, "UNAVAILABLE"))


def test_a_cells_given_load_is_that_of_all_devices(
    runner: Runner, tmp_path: Path
) -> None:
    """``--mlperf-target-qps`` is what LoadGen issues; nothing multiplies it."""
    done = runner.run(over_both(tmp_path, tuning=Tuning(target_qps=500, batch=4)))

    assert done.facts.to_texts()["target_qps"] == "500"
    assert done.settings.target_qps == 500
