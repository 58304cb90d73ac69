"""Micro-benchmarks of the pieces of a run, without LoadGen: pytest-benchmark's table.

LoadGen accepts no completion outside a run, so its two calls are replaced by the
cheapest Python there is; what is left is our own share of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perf.suite_run import Bench
from perf.suite_run import Result
from perf.suite_run import run_suite
from pytest_mlperf.api import registry
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NullEngine
from pytest_mlperf.sut import loadgen
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.batch_sut import Fixed
from pytest_mlperf.sut.batch_sut import Window
from pytest_mlperf.sut.completion import TokenTiming
from pytest_mlperf.sut.completion import batch_completer

MANY = 100_000
BATCH = 1024
NAMES = ("resnet50", "bert")


@pytest.fixture(scope="module")
def workloads() -> dict[str, TensorWorkload]:
    """The embedded workloads, their samples in memory."""
    opened: dict[str, TensorWorkload] = {}
    for name in NAMES:
        workload = registry.benchmark(name).open_workload("embedded", None)
        assert isinstance(workload, TensorWorkload)
        opened[name] = workload
        workload.dataset.load(range(workload.dataset.performance_count))
    return opened


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes completions in LoadGen's place: the sizes of the batches."""
    sizes: list[int] = []
    monkeypatch.setattr(loadgen, "complete", lambda rows: sizes.append(len(rows)))
    return sizes


@pytest.fixture(scope="module")
def server_run(bench: Bench) -> Result:
    """A real Server run of a second, whose log can be judged."""
    tuning = Tuning(target_qps=5000.0)
    return run_suite(
        bench.make_task(
            "bert", "99", Scenario.SERVER, "null", seconds=1.0, tuning=tuning
        )
    )


def raise_error(error: BaseException) -> None:
    """Let the benchmark fail."""
    raise error


def test_fixed_batches(benchmark: Any) -> None:
    """Cutting 100,000 samples into batches keeps each of them once."""
    ids = list(range(MANY))
    parts = benchmark(lambda: list(Fixed(BATCH).batches(ids, ids, None)))

    assert sum(len(part) for part, _ in parts) == MANY


def test_fixed_batches_sorted(benchmark: Any) -> None:
    """Sorting 100,000 samples by length first keeps each of them once."""
    ids = list(range(MANY))
    indices = np.random.default_rng(0).integers(0, 500, MANY).tolist()
    lengths = np.random.default_rng(1).integers(20, 384, 500).astype(np.int32)
    parts = benchmark(lambda: list(Fixed(8).batches(ids, indices, lengths)))

    assert sum(len(part) for part, _ in parts) == MANY


def test_window_take(
    benchmark: Any, workloads: dict[str, TensorWorkload], sink: list[int]
) -> None:
    """10,000 waiting queries of one sample become batches of at most 32.

    From issue to completion: two queue operations a query, one engine call a batch.
    """

    def drain() -> int:
        sink.clear()
        workload = workloads["resnet50"]
        engine = NullEngine(np.ascontiguousarray(workload.blank))
        sut = BatchSUT(Window(32), [engine], workload, raise_error)
        for number in range(10_000):
            sut.issue([number], [0])
        sut.start()
        sut.stop()
        return sut.completed

    assert benchmark(drain) == 10_000
    assert max(sink) == 32


@pytest.mark.parametrize("size", [1, BATCH])
def test_completion(
    size: int, benchmark: Any, workloads: dict[str, TensorWorkload], sink: list[int]
) -> None:
    """One batch of the null engine becomes one call with a response a sample."""
    workload = workloads["resnet50"]
    engine = NullEngine(np.ascontiguousarray(workload.blank))
    work = batch_completer(engine, workload, lambda _: None, TokenTiming())
    ids = list(range(size))
    benchmark(work, ids, ids)

    assert set(sink) == {size}


@pytest.mark.parametrize("name", NAMES)
def test_gather(
    name: str, benchmark: Any, workloads: dict[str, TensorWorkload]
) -> None:
    """Gathering a batch of 8 returns 8 contiguous rows of every input."""
    batch = benchmark(workloads[name].dataset.gather, list(range(8)))

    assert all(len(a) == 8 and a.flags.c_contiguous for a in batch.values())


@pytest.mark.parametrize("name", NAMES)
def test_respond(
    name: str, benchmark: Any, workloads: dict[str, TensorWorkload]
) -> None:
    """A batch of 8 outputs becomes 8 answers."""
    workload = workloads[name]
    shapes: dict[str, Callable[[], list[Any]]] = {
        "resnet50": lambda: [np.zeros((8, 1000), np.float32)],
        "bert": lambda: [np.zeros((8, 384), np.float32)] * 2,
    }
    responses = benchmark(workload.respond, shapes[name](), list(range(8)))

    assert len(responses.rows) == 8


def test_judge(benchmark: Any, server_run: Result) -> None:
    """Judging a Server log comes to a verdict with every check of the round."""
    done = server_run.done
    context = Context(settings=done.settings, reference=dict(done.reference))
    task = server_run.task
    verdict = benchmark(judge, task.folder, task.cell, task.mode, context)

    assert "loadgen_validity" in {check.name for check in verdict.checks}
