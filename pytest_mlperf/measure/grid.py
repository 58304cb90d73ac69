"""Runs of one cell with other settings each, scored by what its scenario is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.peak_trials import has_peak
from pytest_mlperf.measure.peak_trials import read_trial
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.journal import GridRun

WHY = "a run of the grid"


@dataclass(frozen=True, slots=True)
class GridRuns:
    """What the runs of a grid are made with."""

    rig: Rig
    cell: Cell
    options_of: Callable[[Point], Options]
    """A combination -> the options of its runs."""

    def plan(self, point: Point) -> Task:
        """Return a combination's task; its folder is not made yet."""
        rig = self.rig.with_options(self.options_of(point))
        return rig.plan(self.cell, Mode.PERFORMANCE, "grid")

    def run(self, point: Point, seconds: float) -> GridRun:
        """Run a combination; what cannot be built or run has no score."""
        shortening = Shortening(int(seconds * 1000), WHY, 1)
        try:
            task = make_task_folder(self.plan(point))
            task = replace(task, shortening=shortening, time_limit_s=None)
            verdict = run_task(self.rig, task)
        except (BuildFailed, RunFailed, RunRefused) as error:
            return GridRun(point, seconds, figure=str(error).partition("\n")[0])
        score, figure = score_run(task, verdict)
        others = verdict.run.others_share
        return GridRun(point, seconds, score, figure, verdict.build, others)


def score_run(task: Task, verdict: Verdict) -> tuple[float | None, str]:
    """Return a run's score, more is better, and its figure in words.

    Offline's is its rate, a stream's its latency; at a given load, it is the latency at
    the rule's percentile as a share of its bound.
    """
    if verdict.metric is None:
        return None, verdict.cause
    if has_peak(task.rule):
        qps = task.tuning.target_qps or 0.0
        share = read_trial(Log.read(task.folder), task, qps, verdict.run).latency_share
        return -share, f"{share:.1%} of the bound at {qps:,.4g} queries/s"
    value = verdict.metric.value
    return (value if task.rule.scenario is Scenario.OFFLINE else -value), str(
        verdict.metric
    )
