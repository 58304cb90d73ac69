"""A model's own batch loop without LoadGen: what the engine could do at best.

``python -m perf.bare_engine BENCHMARK TARGET CACHE [POINT…]`` prints JSON, samples/s of
every point, a setting of streams, threads and batch such as ``2x1x8``; without one, of
a grid of them. The loop is the probe's ``bare_loop``: gather, infer and respond, one
thread a stream. ``suites/test_bare.py`` times one stream at the layout for latency; the
best rate needs several at once.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.tuning.bare_loop import bare_loop

BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of the grid."""

    streams: int
    threads: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read ``2x1x8``."""
        return cls(*map(int, text.split("x")))

    def __str__(self) -> str:
        return f"{self.streams}x{self.threads}x{self.batch}"

    @property
    def tuning(self) -> Tuning:
        """The same as a system file would say it."""
        return Tuning(batch=self.batch, streams=self.streams, threads=self.threads)


def list_points(cpus: int) -> list[Point]:
    """Return every split of the CPUs, and two that do not add up, in every batch."""
    splits = [(n, cpus // n) for n in range(1, cpus + 1) if cpus % n == 0]
    layouts = dict.fromkeys([*splits, (1, 1), (2 * cpus, 1)])
    return [Point(*layout, batch) for layout in layouts for batch in BATCHES]


def index_batches(
    workload: TensorWorkload, batch: int, samples: int, *, is_sorted: bool
) -> list[list[int]]:
    """Return as many samples as asked for, as LoadGen repeats them, in batches."""
    dataset = workload.dataset
    order = np.random.default_rng(0).permutation(dataset.performance_count)
    order = np.resize(order, max(batch, samples))
    if is_sorted and dataset.lengths is not None:
        order = order[np.argsort(-dataset.lengths[order], kind="stable")]
    indices: list[int] = order.tolist()
    return [indices[i : i + batch] for i in range(0, len(indices), batch)]


def pad_inputs(workload: TensorWorkload, length: int) -> TensorWorkload:
    """Return the question-answering workload with every input padded to a length."""
    from pytest_mlperf.benchmarks.squad.workload import SquadDataset
    from pytest_mlperf.benchmarks.squad.workload import SquadWorkload

    assert isinstance(workload, SquadWorkload)
    inputs = workload.dataset.inputs
    return replace(workload, dataset=SquadDataset(workload.features, inputs, length))


def measure_rate(
    provider: EngineProvider,
    build: Build,
    workload: TensorWorkload,
    point: Point,
    args: argparse.Namespace,
) -> float:
    """Return samples/s at one point."""
    batches = index_batches(
        workload, point.batch, args.samples, is_sorted=not args.unsorted
    )
    engines = [provider.open(build, point.threads) for _ in range(point.streams)]
    with quiet_interpreter():
        rate = bare_loop(engines, workload, batches, args.seconds)
    for engine in engines:
        engine.close()
    return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark")
    parser.add_argument("target")
    parser.add_argument("cache", type=Path)
    parser.add_argument("points", type=Point.parse, nargs="*", metavar="POINT")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--unsorted", action="store_true")
    parser.add_argument("--pad", type=int, help="pad every input to this length")
    args = parser.parse_args()
    benchmark = registry.benchmark(args.benchmark)
    provider: EngineProvider = registry.load("engine", "onnxruntime")
    workload = benchmark.open_workload("embedded", None)
    assert isinstance(workload, TensorWorkload)
    precision = benchmark.precision(args.target)
    build = provider.build(BuildRequest(workload, precision, args.cache))
    if args.pad:
        workload = pad_inputs(workload, args.pad)
    workload.dataset.load(range(workload.dataset.performance_count))
    points = args.points or list_points(len(os.sched_getaffinity(0)))
    rates = {
        str(point): measure_rate(provider, build, workload, point, args)
        for point in points
    }
    print(json.dumps(rates))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
