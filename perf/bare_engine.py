"""A model's own batch loop without LoadGen: what the engine could do at best.

``python -m perf.bare_engine BENCHMARK TARGET CACHE …`` prints JSON: samples/s
for every layout (streams x threads) and batch of a grid, or for one of them. The loop
is the probe's ``bare_loop``: gather, infer and respond, one thread a stream.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.tuning.bare_loop import bare_loop

BATCHES = (1, 2, 4, 8, 16, 32)


def index_batches(
    workload: TensorWorkload, batch: int, samples: int, *, order: bool
) -> list[list[int]]:
    """Return as many samples as asked for, as LoadGen repeats them, in batches."""
    dataset = workload.dataset
    picked = np.random.default_rng(0).permutation(dataset.performance_count)
    picked = np.resize(picked, max(batch, samples))
    if order and dataset.lengths is not None:
        picked = picked[np.argsort(-dataset.lengths[picked], kind="stable")]
    indices: list[int] = picked.tolist()
    return [indices[i : i + batch] for i in range(0, len(indices), batch)]


def padded(workload: TensorWorkload, length: int) -> TensorWorkload:
    """Return the question-answering workload with every input padded to a length."""
    from pytest_mlperf.benchmarks.squad.workload import SquadDataset
    from pytest_mlperf.benchmarks.squad.workload import SquadWorkload

    assert isinstance(workload, SquadWorkload)
    inputs = workload.dataset.inputs
    return replace(workload, dataset=SquadDataset(workload.features, inputs, length))


def rates(
    provider: EngineProvider,
    build: Build,
    workload: TensorWorkload,
    streams: Streams,
    batches: Sequence[int],
    args: argparse.Namespace,
) -> dict[str, float]:
    """Return ``2 x 1, batch 4`` -> samples/s for one layout."""
    found = {}
    engines = [provider.open(build, streams.threads) for _ in range(streams.count)]
    for batch in batches:
        todo = index_batches(workload, batch, args.samples, order=not args.unsorted)
        with quiet_interpreter():
            rate = bare_loop(engines, workload, todo, args.seconds)
        found[f"{streams}, batch {batch}"] = rate
    for engine in engines:
        engine.close()
    return found


def layouts(cpus: int) -> list[Streams]:
    """Return every split of the CPUs, and the two that share them out twice."""
    splits = [Streams(cpus // n, n) for n in range(1, cpus + 1) if cpus % n == 0]
    return [*splits, Streams(1, 1), Streams(2 * cpus, 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark")
    parser.add_argument("target")
    parser.add_argument("cache", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--unsorted", action="store_true")
    parser.add_argument("--pad", type=int, help="pad every input to this length")
    args = parser.parse_args()
    benchmark = registry.benchmark(args.benchmark)
    provider: EngineProvider = registry.load("engine", "onnxruntime")
    workload: Any = benchmark.open_workload("embedded", None)
    precision = benchmark.precision(args.target)
    build = provider.build(BuildRequest(workload, precision, args.cache))
    if args.pad:
        workload = padded(workload, args.pad)
    workload.dataset.load(range(workload.dataset.performance_count))
    grid = layouts(len(os.sched_getaffinity(0)))
    if args.streams:
        grid = [Streams(args.streams, args.threads)]
    found: dict[str, float] = {}
    for streams in dict.fromkeys(grid):
        sizes = (args.batch,) if args.batch else BATCHES
        found |= rates(provider, build, workload, streams, sizes, args)
    print(json.dumps(found))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
