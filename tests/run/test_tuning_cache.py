"""How often a cell is probed where other programs use the CPUs."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.run.tuning_cache import TuningCache
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.sut.tuned_load import Tuned
from tests.support import doubles

ALL = Tuning(batch=8, streams=1, target_qps=400)


@pytest.fixture
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs of which others use half, whatever is measured."""
    ticks = count(0, 100)

    def read(_cpus: object) -> CpuTime:
        now = next(ticks)
        return CpuTime(now, now // 2, 0, 0)

    monkeypatch.setattr(CpuTime, "read", read)


@pytest.mark.usefixtures("_busy")
@pytest.mark.parametrize(
    ("mode", "given", "probes"),
    [
        (Mode.PERFORMANCE, Tuning(), 2),
        (Mode.PERFORMANCE, replace(ALL, target_qps=None), 2),
        (Mode.PERFORMANCE, replace(ALL, batch=None), 2),
        (Mode.PERFORMANCE, ALL, 1),
        (Mode.ACCURACY, Tuning(), 1),
    ],
)
def test_a_disturbed_probe_is_repeated_where_a_figure_depends_on_it(
    tmp_path: Path, mode: Mode, given: Tuning, probes: int
) -> None:
    """Nobody times an accuracy run, and what is given is chosen by no rate."""
    task = doubles.make_task(tmp_path, mode=mode, tuning=given, precision="fp32")
    built = Built("digest", "fp32", "built", {}, False, "CPU", "")
    done: list[Tuned] = []

    def measure() -> Tuned:
        done.append(Tuned(Streams(1, 1), 8, loop_rate=100.0))
        return done[-1]

    no_trial: Any = None  # Offline makes none
    cache, engine = TuningCache(), task.provider.load()
    tuned = cache.tune(task, engine, built, 64, measure, no_trial, lambda: None)

    assert len(done) == probes
    assert "other programs used 50% of the CPUs" in tuned.note
