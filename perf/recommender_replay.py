"""One batch size of a deployment: its CUDA graphs, and their times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from perf.recommender_deployment import Deployment
from perf.recommender_report import BatchResult
from pytest_mlperf.benchmarks.recommender.official import NUMBERS

MOST_PAIRS = 1 << 22
"""Pairs of one measurement, which are drawn beforehand into pinned memory."""
MOST_BATCHES = 1000
PARTS = ("input", "lookup", "dense", "output", "insert")


class Replay:
    """One batch size: static buffers, and a CUDA graph of each step."""

    def __init__(self, deployment: Deployment, batch: int) -> None:
        import torch

        cache, network = deployment.cache, deployment.network
        device = cache.device
        self.keys = deployment.draw_keys(batch)
        self.dense = torch.randn(batch, NUMBERS, device=device)
        self.features = network.make_features(batch, device)
        self.host_scores = torch.empty(batch, pin_memory=True)
        self.scores = torch.empty(batch, device=device)

        def look_up() -> None:
            cache.look_up(self.keys, self.features[:, 1:])

        def compute() -> None:
            self.scores.copy_(network.run(self.dense, self.features))

        def put_out() -> None:
            self.host_scores.copy_(self.scores, non_blocking=True)

        def run_all() -> None:
            for step in (look_up, compute, put_out):
                step()

        self.insert = record(cache.insert_missing)
        self.steps = {
            "lookup": record(look_up),
            "dense": record(compute),
            "output": record(put_out),
        }
        self.whole = record(run_all)

    def put_in(self, keys: Any, numbers: Any) -> None:
        self.keys.copy_(keys, non_blocking=True)
        self.dense.copy_(numbers, non_blocking=True)


def record(call: Callable[[], None]) -> Any:
    """Return a CUDA graph of a call, compiled and warmed up before."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


def draw_batches(deployment: Deployment, batch: int, count: int) -> tuple[Any, Any]:
    """Return pinned keys [count, tables, batch] and numbers [count, batch, 13]."""
    import torch

    tables = len(deployment.sizes)
    keys = torch.empty(count, tables, batch, dtype=torch.int32, pin_memory=True)
    numbers = torch.empty(count, batch, NUMBERS, pin_memory=True)
    drawn = deployment.draw_keys(count * batch).view(tables, count, batch)
    keys.copy_(drawn.transpose(0, 1).contiguous())
    numbers.copy_(torch.rand(numbers.shape, device=deployment.cache.device))
    return keys, numbers


def measure(deployment: Deployment, batch: int) -> BatchResult:
    """Measure one batch size: latencies first, then each step by the device's clock."""
    import torch

    replay = Replay(deployment, batch)
    count = max(32, min(MOST_BATCHES, MOST_PAIRS // batch))
    pool = draw_batches(deployment, batch, 2 * count)
    cache, stream = deployment.cache, torch.cuda.current_stream()
    for n in range(10):  # clocks; nothing is inserted, so that these stay fresh
        replay.put_in(pool[0][-1 - n], pool[1][-1 - n])
        replay.whole.replay()
    cache.reset_counts()
    torch.cuda.synchronize()
    latencies = []
    done = torch.cuda.Event()
    began = time.perf_counter()
    for n in range(count):
        start = time.perf_counter()
        replay.put_in(pool[0][n], pool[1][n])
        replay.whole.replay()
        done.record(stream)
        replay.insert.replay()  # behind the answer
        done.synchronize()
        latencies.append((time.perf_counter() - start) * 1e6)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    counts = cache.count_rows(count * batch)
    parts = time_parts(replay, (pool[0][count:], pool[1][count:]), count)
    return BatchResult(
        batch, count * batch / seconds, latencies, parts, counts.hit_rate,
        counts.cached_hit_rate,
    )  # fmt: skip


def time_parts(replay: Replay, pool: tuple[Any, Any], count: int) -> dict[str, float]:
    """Return the median of each step in microseconds."""
    import torch

    taken: dict[str, list[float]] = {name: [] for name in PARTS}
    for n in range(count):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(6)]
        steps = iter(events)
        next(steps).record()
        replay.put_in(pool[0][n], pool[1][n])
        next(steps).record()
        for graph in (*replay.steps.values(), replay.insert):
            graph.replay()
            next(steps).record()
        torch.cuda.synchronize()
        for name, start, end in zip(PARTS, events, events[1:], strict=False):
            taken[name].append(start.elapsed_time(end) * 1e3)
    return {name: float(np.median(values)) for name, values in taken.items()}
