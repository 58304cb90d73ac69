"""A run that cannot become VALID any more is ended, and says that it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.stop_early import is_stopped_early
from pytest_mlperf.measure.stop_early import make_partial_verdict
from pytest_mlperf.measure.stop_early import stop_lost_run
from pytest_mlperf.runner.runner import PARTIAL
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.runner.runner import RunStopped
from tests.support import doubles

pytestmark = pytest.mark.usefixtures("bounded")


def test_a_lost_run_ends_early_and_is_never_valid(tmp_path: Path) -> None:
    """Almost twice the load that the engine bears: over after seconds of 60."""
    task = doubles.make_task(
        tmp_path, "SLOW_SAMPLE", scenario=Scenario.SERVER, seconds=60,
        tuning=replace(doubles.QUICK, target_qps=800),
    )  # fmt: skip
    runner = Runner(stall_s=30)
    with pytest.raises(RunStopped) as stopped:
        runner.run(task, stop_lost_run)
    verdict = make_partial_verdict(task, stopped.value, RunFacts(), ("embedded",))
    note = json.loads((task.folder / PARTIAL).read_text())

    assert runner.pid is None
    assert (task.folder / "mlperf_log_detail.txt").stat().st_size > 0
    assert note["cause"].startswith("ended by --mlperf-stop-early: ")
    assert verdict.outcome == "INVALID"
    assert verdict.labels == ("embedded", "partial")
    assert 0 < verdict.run.stopped_after_s < 60
    assert verdict.metric is None
    assert "queries or more late after" in verdict.cause
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_only_performance_runs_are_ended_and_only_where_asked() -> None:
    """A compliance test compares what it can."""
    task = doubles.make_task(Path("anywhere"), scenario=Scenario.SERVER)
    options = Options(stop_early=True)

    assert is_stopped_early(options, task)
    assert not is_stopped_early(Options(), task)
    assert not is_stopped_early(options, replace(task, mode=Mode.ACCURACY))
