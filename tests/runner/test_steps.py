"""Which part of LoadGen's test a heartbeat is of: only the measurement counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_mlperf.core.checks.context import read_elapsed_s
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.measure.progress import show_beat
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.runner import Runner
from tests.support import doubles

pytestmark = pytest.mark.usefixtures("bounded")

STEPS = ["prepare", "run", "log"]


@pytest.mark.parametrize(
    "scenario",
    [Scenario.OFFLINE, Scenario.SERVER, Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM],
)
def test_a_run_is_from_the_first_query_to_the_last_answer(
    tmp_path: Path, scenario: Scenario
) -> None:
    """LoadGen makes its queries before, and writes its logs after."""
    beats: list[Heartbeat] = []
    task = doubles.make_task(tmp_path, "SLOW_SAMPLE", scenario=scenario, seconds=2)
    runner = Runner(stall_s=60)
    try:
        runner.run(task, beats.append)
    finally:
        runner.close()
    beats = [beat for beat in beats if beat.phase == "run"]
    steps = list(dict.fromkeys(beat.step for beat in beats))
    running = [beat for beat in beats if beat.step == "run"]

    assert steps in (STEPS, STEPS[:2])  # the logs of so few queries take no time
    assert not any(b.issued or b.measured_s for b in beats if b.step == "prepare")
    assert all(b.issued for b in running)
    assert all(a.measured_s < b.measured_s for a, b in pairwise(running))
    # Half a beat is what the first query's time is known to.
    assert running[-1].measured_s <= read_elapsed_s(Log.read(task.folder)) + 0.125


def test_the_rate_so_far_leaves_out_what_loadgen_prepares(tmp_path: Path) -> None:
    """Half a minute of it had shown 31,000 a second, a minute into a run of 46,000."""
    task = doubles.make_task(tmp_path, scenario=Scenario.SERVER)
    waiting = Heartbeat("run", elapsed_s=20.0, expected_s=600.0)
    running = replace(
        waiting, issued=2_301_000, completed=2_300_000, elapsed_s=70.0,
        is_measuring=True, measured_s=50.0,
    )  # fmt: skip
    over = replace(running, is_measuring=False, completed=2_301_000, elapsed_s=75.0)
    trial = replace(running, phase="tune")

    assert (show_beat(task, waiting).phase, show_beat(task, waiting).rate) == (
        "prepare",
        0.0,
    )
    assert show_beat(task, waiting).elapsed_s == 20.0
    assert (show_beat(task, running).phase, show_beat(task, running).rate) == (
        "run",
        46_000.0,
    )
    assert show_beat(task, running).elapsed_s == 50.0
    assert (show_beat(task, over).phase, show_beat(task, over).rate) == ("log", 46_020)
    assert (show_beat(task, trial).phase, show_beat(task, trial).rate) == ("tune", 0.0)
