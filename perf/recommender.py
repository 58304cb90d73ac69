"""A recommender of 22 billion parameters on one GPU, measured without LoadGen.

    python -m perf.recommender --model dlrm --precision fp16 --out reports/dlrm

Rows and weights are made up; keys follow a power law over Criteo's tables. A tenth of
the rows is on the device, all of them are in pinned host memory. Every batch has keys
that no batch before had drawn, so that the hit rate is not that of a replay. Prints the
tables of NVIDIA's deployment guide and writes them as CSV and Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perf.recommender_report import BATCHES
from perf.recommender_report import BatchResult
from perf.recommender_report import write_report
from pytest_mlperf.benchmarks.recommender.official import DIMENSION
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.benchmarks.recommender.official import ONE_HOT
from pytest_mlperf.benchmarks.recommender.official import SIZES
from pytest_mlperf.engines.torch.recommender import dense
from pytest_mlperf.engines.torch.recommender import device_cache
from pytest_mlperf.engines.torch.recommender import host_rows

BOTTOM = (NUMBERS, 512, 256, DIMENSION)
TOP = (1024, 1024, 512, 256, 1)
CROSS = {"dlrm": (0, 0), "dcnv2": (3, 512)}
MOST_PAIRS = 1 << 22
"""Pairs of one measurement, which are drawn beforehand into pinned memory."""
MOST_BATCHES = 1000
PARTS = ("input", "lookup", "dense", "output", "insert")
CHUNK = 1 << 20
"""Rows that are made at a time."""
WARM_BATCH = 65_536


@dataclass(slots=True)
class Deployment:
    """A model on the device."""

    cache: Any
    network: Any
    sizes: tuple[int, ...]
    exponent: float
    generator: Any

    def draw_keys(self, pairs: int) -> Any:
        """Return int32 [tables, pairs] on the device."""
        import torch

        return torch.stack(
            [
                device_cache.draw_power_law(
                    size, pairs, self.exponent, self.generator
                ).int()
                for size in self.sizes
            ]
        )


def cap_sizes(parameters: float) -> tuple[int, ...]:
    """Return Criteo's tables, the largest cut so that the rows have that many
    parameters.
    """
    low, high = 1, max(SIZES)
    while low < high:
        cap = (low + high + 1) // 2
        fits = sum(min(size, cap) for size in SIZES) * DIMENSION <= parameters
        low, high = (cap, high) if fits else (low, cap - 1)
    return tuple(min(size, low) for size in SIZES)


def make_rows(first: int, last: int, device: Any, dtype: Any) -> Any:
    """Return rows that follow from their numbers: [-0.05, 0.05)."""
    import torch

    row = torch.arange(first, last, device=device, dtype=torch.int64)[:, None]
    return hash_rows(row, dtype)


def hash_rows(row: Any, dtype: Any) -> Any:
    """Return the vectors of rows given as int64 [..., 1]."""
    import torch

    number = torch.arange(DIMENSION, device=row.device, dtype=torch.int64)
    mixed = (row * 2654435761 + number * 40503) % 65521
    return (mixed.to(torch.float32) / 65521 - 0.5).mul_(0.1).to(dtype)


def log(text: str) -> None:
    """Print a line with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)  # noqa: T201


def deploy(options: argparse.Namespace, precision: str) -> tuple[Deployment, Any]:
    """Fill host memory, plan the cache and put the dense part on the device."""
    import torch

    device = torch.device("cuda")
    dtype = torch.float16 if precision == "fp16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    sizes = cap_sizes(options.parameters)
    rows = sum(sizes)
    began = time.monotonic()
    pinned = host_rows.pin_rows(rows, DIMENSION, dtype)
    log(
        f"{rows:,} rows, {pinned.tensor.nbytes / 1e9:.1f} GB pinned in "
        f"{time.monotonic() - began:.0f} s"
    )
    began = time.monotonic()
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows)
        pinned.tensor[first:last].copy_(make_rows(first, last, device, dtype))
    torch.cuda.synchronize()
    log(f"filled in {time.monotonic() - began:.0f} s")
    plan = device_cache.plan_cache(sizes, ONE_HOT, options.gpucacheper)
    cache = device_cache.DeviceCache(
        plan, pinned.tensor, device, options.policy, pinned.address
    )
    log(
        f"device: {plan.slots:,} rows ({plan.resident_rows:,} of "
        f"{sum(r >= 0 for r in plan.residents)} whole tables), "
        f"{cache.rows.nbytes / 1e9:.2f} GB"
    )
    weights = dense.draw_weights(BOTTOM, TOP, len(sizes), CROSS[options.model])
    network = dense.DenseNetwork(weights, len(sizes), device, dtype)
    generator = torch.Generator(device).manual_seed(options.seed)
    return Deployment(cache, network, sizes, options.exponent, generator), pinned


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
    for n in range(count):
        keys[n].copy_(deployment.draw_keys(batch))
        numbers[n].copy_(torch.rand(batch, NUMBERS, device=deployment.cache.device))
    return keys, numbers


def warm_up(deployment: Deployment, seconds: float) -> None:
    """Look up fresh batches until the time is over; print how the hit rate rises."""
    import torch

    batch = WARM_BATCH
    replay = Replay(deployment, batch)
    cache, ends = deployment.cache, time.monotonic() + seconds
    pairs = 0
    while time.monotonic() < ends:
        cache.reset_counts()
        for _ in range(100):
            replay.keys.copy_(deployment.draw_keys(batch))
            replay.steps["lookup"].replay()
            replay.insert.replay()
        torch.cuda.synchronize()
        pairs += 100 * batch
        counts = cache.count_rows(100 * batch)
        log(
            f"warm-up: {pairs:,} pairs, hit rate {counts.hit_rate:.2%}, cached tables "
            f"{counts.cached_hit_rate:.2%}, {counts.evictions:,} evictions"
        )


def check_answers(deployment: Deployment, batch: int = 4096) -> None:
    """Compare a warm lookup with the rows' recipe, bit for bit, and the dense part
    with fp32.
    """
    import torch

    cache, network = deployment.cache, deployment.network
    keys = deployment.draw_keys(batch)
    features = network.make_features(batch, cache.device)
    cache.look_up(keys, features[:, 1:])
    rows = (keys.long() + cache.offsets[:, None]).T[:, :, None]
    wrong = int((features[:, 1:] != hash_rows(rows, network.dtype)).any(2).sum())
    numbers = torch.randn(batch, NUMBERS, device=cache.device)
    exact = dense.DenseNetwork(
        network.weights, network.tables, cache.device, torch.float32
    )
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    reference = exact.run(numbers, features.float())
    torch.backends.cuda.matmul.allow_tf32 = allowed
    error = float((network.run(numbers, features) - reference).abs().max())
    log(
        f"check: {wrong} wrong rows of {rows.numel():,}, largest difference of a "
        f"probability from fp32 {error:.2e}, their spread {float(reference.std()):.2f}"
    )
    if wrong or not error < 0.05:
        raise SystemExit("the answers are wrong: nothing was measured")


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


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(CROSS), default="dlrm")
    parser.add_argument("--precision", default="fp16,fp32", help="fp16, fp32, tf32")
    parser.add_argument("--parameters", type=float, default=22e9)
    parser.add_argument("--gpucacheper", type=float, default=0.1)
    parser.add_argument("--policy", choices=("lfu", "lru"), default="lfu")
    parser.add_argument("--exponent", type=float, default=1.1)
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--warm-up", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/recommender"))
    return parser.parse_args(arguments)


def run_precision(options: argparse.Namespace, precision: str) -> Iterator[str]:
    """Measure all batch sizes in one precision; yield the report."""
    import torch

    deployment, pinned = deploy(options, precision)
    check_answers(deployment)
    warm_up(deployment, options.warm_up)
    check_answers(deployment)
    rows = []
    for batch in map(int, options.batches.split(",")):
        result = measure(deployment, batch)
        rows.append(result.as_row(options.model, precision))
        log(", ".join(f"{name} {text}" for name, text in rows[-1].items()))
    plan = deployment.cache.plan
    configuration = {
        "GPU": torch.cuda.get_device_name(),
        "Model architecture": options.model.upper(),
        "Model size": f"{sum(plan.sizes) * DIMENSION / 1e9:.1f}B parameters, "
        f"{len(plan.sizes)} tables of dimension {DIMENSION}, generated",
        "Backend": f"PyTorch {torch.__version__}, in-process",
        "Precision": precision.upper(),
        "Device cache": f"{plan.slots:,} rows (gpucacheper {options.gpucacheper:g}), "
        f"{deployment.cache.rows.nbytes / 1e9:.2f} GB, {options.policy}",
        "Host memory": f"{pinned.tensor.nbytes / 1e9:.1f} GB pinned",
        "Keys": f"power law, exponent {options.exponent:g}, fresh in every batch",
        "CUDA graph": "Enabled",
        "Device memory": f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most",
    }
    yield write_report(options.out, f"{options.model}-{precision}", configuration, rows)
    pinned.close()


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; a precision's memory is given back before the next."""
    import torch

    options = parse_arguments(arguments)
    for precision in options.precision.split(","):
        for text in run_precision(options, precision):
            print(text, flush=True)  # noqa: T201
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
