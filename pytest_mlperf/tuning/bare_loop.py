"""The bare loop: an engine's batches one after another, without LoadGen."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import ends_on_device
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.sut.completion import batch_gatherer
from pytest_mlperf.sut.completion import model_runner


def bare_loop(
    engines: Sequence[Engine],
    workload: TensorWorkload,
    batches: Sequence[list[int]],
    seconds: float,
    beat: Callable[[], None] = lambda: None,
) -> float:
    """Return samples/s of the engines alone, one thread each, without LoadGen.

    Whole passes over ``batches`` until ``seconds`` are over. The engines are warm.
    """
    total, started = 0, time.perf_counter()
    with ThreadPoolExecutor(len(engines)) as pool:
        while True:
            todo = queue.SimpleQueue[list[int]]()
            for batch in batches:
                todo.put(batch)
            work = partial(_drain, workload=workload, todo=todo, beat=beat)
            list(pool.map(work, engines))  # list() raises what an engine raised
            total += sum(map(len, batches))
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                return total / elapsed


def _drain(
    engine: Engine,
    workload: TensorWorkload,
    todo: queue.SimpleQueue[list[int]],
    beat: Callable[[], None],
) -> None:
    while True:
        try:
            batch = todo.get(block=False)
        except queue.Empty:
            return
        time_batch(engine, workload, batch)
        beat()


def time_batch(engine: Engine, workload: TensorWorkload, indices: list[int]) -> float:
    """Run one batch as the SUT would; return its seconds."""
    started = time.perf_counter()
    if engine.answers:
        engine.infer({}, len(indices))
    elif isinstance(workload, RunsModel):
        model_runner(engine, workload)(indices)
    else:
        gather = batch_gatherer(engine, workload.dataset)
        outputs = engine.infer(gather(indices), len(indices))
        if not ends_on_device(engine):
            workload.respond(outputs, indices)
    return time.perf_counter() - started
