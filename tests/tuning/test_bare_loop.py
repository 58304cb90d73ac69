"""One batch without LoadGen, by the columns of perf_analyzer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from dataclasses import field

import pytest

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.tuning.bare_loop import time_steps
from tests.support import doubles


@dataclass
class Echo:
    """Returns its input after 3 ms."""

    answers: bool = False

    def infer(self, batch: Batch, size: int) -> list[Array]:  # noqa: ARG002
        time.sleep(0.003)
        return [batch["number"][:, :1]]

    def close(self) -> None:
        pass


@dataclass
class TimedEcho(Echo):
    """Has a clock of its own: 1 ms in, 1.5 ms of computation, nothing out."""

    timeline: Timeline = field(default_factory=Timeline)

    def infer(self, batch: Batch, size: int) -> list[Array]:
        outputs = super().infer(batch, size)
        self.timeline.note(3.0, 1.0, 1.5, 0.0, size)
        return outputs


@pytest.mark.parametrize("engine", [Echo(), TimedEcho()])
def test_a_batch_is_told_by_perf_analyzers_columns(engine: Echo) -> None:
    """What a device times is its copies and computation; the rest of ``infer`` is the
    queue.
    """
    workload = doubles.NUMBERS.open_workload("embedded", None)
    workload.dataset.load([0, 1])
    started = time.perf_counter()
    steps = time_steps(engine, workload, [0, 1])
    elapsed = time.perf_counter() - started

    assert tuple(steps) == COLUMNS
    assert min(steps.values()) >= 0
    assert 0.003 <= sum(steps.values()) <= elapsed
    if isinstance(engine, TimedEcho):
        assert steps["Server Compute Input"] == pytest.approx(0.001)
        assert steps["Server Compute Infer"] == pytest.approx(0.0015)
        assert steps["Server Queue"] >= 0.0005
    else:
        assert steps["Server Compute Infer"] >= 0.003
