"""The bare loop: an engine's batches one after another, without LoadGen."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import TimesBatches
from pytest_mlperf.api.engine import ends_on_device
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.latency_breakdown import COLUMNS
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


def time_batch(
    engine: Engine, workload: TensorWorkload, indices: Sequence[int]
) -> float:
    """Run one batch as the SUT would; return its seconds."""
    started = time.perf_counter()
    if engine.answers:
        engine.infer({}, len(indices))
    elif isinstance(workload, RunsModel):
        model_runner(engine, workload)(list(indices))
    else:
        gather = batch_gatherer(engine, workload.dataset)
        outputs = engine.infer(gather(indices), len(indices))
        if not ends_on_device(engine):
            workload.respond(outputs, indices)
    return time.perf_counter() - started


def time_steps(
    engine: Engine, workload: TensorWorkload, indices: Sequence[int]
) -> Mapping[str, float]:
    """Run one batch as ``time_batch`` does; return its seconds by perf_analyzer's
    columns, whose sum is the batch's time.

    Gathering the samples is what a client does to send them, and making the answers
    what it does to receive them. Of a device that times its batches, queue, copies and
    computation are told apart; of another one all of ``infer`` is computation.
    """
    send, network, queued, copy_in, compute, copy_out, receive = COLUMNS
    steps = dict.fromkeys((send, network, queued, copy_in, compute, copy_out), 0.0)
    if engine.answers or isinstance(workload, RunsModel):
        return {**steps, compute: time_batch(engine, workload, indices), receive: 0.0}
    gather = batch_gatherer(engine, workload.dataset)
    rows = engine.timeline.rows if isinstance(engine, TimesBatches) else []
    before, started = len(rows), time.perf_counter()
    batch = gather(indices)
    gathered = time.perf_counter()
    outputs = engine.infer(batch, len(indices))
    inferred = time.perf_counter()
    if not ends_on_device(engine):
        workload.respond(outputs, indices)
    done = time.perf_counter()
    on_device = [sum(row[n] for row in rows[before:]) / 1e3 for n in (1, 2, 3)]
    if not any(on_device):
        on_device = [0.0, inferred - gathered, 0.0]
    steps |= dict(zip((copy_in, compute, copy_out), on_device, strict=True))
    steps[queued] = inferred - gathered - sum(on_device)
    return {**steps, send: gathered - started, receive: done - inferred}
