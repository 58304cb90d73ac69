"""Ends a run that cannot become VALID any more, and says so in a verdict.

LoadGen has no way to end a run: it goes on until its queries are issued and answered.
So the runner's process is ended, as for Ctrl-C. What LoadGen has written until then
stays in the run's folder, marked partial, and the next item gets a fresh process.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.late_queries import LatencySoFar
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunStopped

PARTIAL = "partial"
"""The label of a run that was ended before its time."""


def find_loss(beat: Heartbeat) -> LatencySoFar | None:
    """Return the latency by which a run cannot become VALID any more, if any."""
    return next((one for one in beat.latencies if one.is_lost), None)


def is_stopped_early(options: Options, task: Task) -> bool:
    """Return whether a task's run is ended once it cannot become VALID."""
    return options.stop_early and task.mode is Mode.PERFORMANCE and not task.audit


def stop_lost_run(beat: Heartbeat) -> None:
    """Raise ``RunStopped`` where no end of the run would make it VALID."""
    if loss := find_loss(beat):
        raise RunStopped(f"ended by --mlperf-stop-early: {loss.describe_loss()}", beat)


def make_partial_verdict(
    task: Task, stopped: RunStopped, facts: RunFacts, labels: tuple[str, ...]
) -> Verdict:
    """Return the verdict of a run that was ended: INVALID, by what was seen of it."""
    cell, beat = task.cell, stopped.beat
    loss = find_loss(beat)
    assert loss is not None, "a run is stopped for what its last heartbeat says"
    limit = Metric("rule", loss.bound_ns / 1e6, "ms") if loss.bound_ns else None
    name = f" by {loss.name}" if loss.name != "latency" else ""
    check = Check(
        "early_stopping",
        Status.FAIL,
        f"{loss.late:,} queries or more late{name} after {beat.measured_s:.0f} s",
        f"at most {loss.most_late:,} of the {loss.queries:,} that the run can have",
        "heartbeats",
        "lower --mlperf-target-qps; the run was ended then (--mlperf-stop-early)",
    )
    facts = replace(facts, stopped_after_s=beat.measured_s)
    return Verdict(
        benchmark=cell.model,
        scenario=cell.scenario.value,
        engine=cell.engine,
        mode=task.mode.value,
        round=cell.round,
        metric=None,
        checks=(check,),
        labels=(*labels, PARTIAL),
        limit=limit,
        percentile=loss.percentile,
        expected_s=beat.expected_s,
        actual_s=beat.measured_s,
        folder=str(task.folder),
        facts={**facts.to_texts(), "stopped early": str(stopped)},
        run=facts,
    )
