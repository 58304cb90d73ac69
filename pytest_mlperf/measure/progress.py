"""How a run's heartbeats look to people."""

from __future__ import annotations

from pytest_mlperf.measure.stop_early import find_loss
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import Task


def show_beat(task: Task, beat: Heartbeat) -> Progress:
    """Return a runner's heartbeat as the progress line shows it."""
    kind = task.audit.name if task.audit else task.mode.value
    if beat.phase != "run" or not beat.measured_s:
        # A probe's short trials count for the watchdog, not for people.
        return Progress(task.cell.id, kind, beat.step, elapsed_s=beat.elapsed_s)
    return Progress(
        cell=task.cell.id,
        mode=kind,
        phase=beat.step,
        issued=beat.issued,
        completed=beat.completed,
        total=beat.total,
        work_share=beat.work_share,
        rate=beat.completed / beat.measured_s,
        elapsed_s=beat.measured_s,
        expected_s=beat.expected_s,
        latency=", ".join(map(str, beat.latencies)),
        loss=loss.describe_loss() if (loss := find_loss(beat)) else "",
    )
