"""What Triton costs: its rounds and those of the same engine in this process, in turns.

    python -m perf.served bert --batches 1,8,16 --rounds 7
    python -m perf.served S1 --engine torch --precision fp16 --alone

Requests are sent one at a time, of the same samples to both. A model of ``bert`` and
``resnet50`` is the embedded one; ``S1`` has the shape of the BERT in NVIDIA's tables of
Triton (4 layers, 288 hidden, 12 heads) with generated weights, and every window has 384
tokens. Per batch size: samples a second of both, the median and the range of their
ratio over the rounds, and where a request's time goes, in perf_analyzer's columns. The
in-process engine has as many threads as an instance of the served model: one, unless
``--options intra_op_thread_count=N`` says otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import closing
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from statistics import median

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.config.load_options import parse_sizes
from pytest_mlperf.config.option_types import parse_pairs
from pytest_mlperf.core.latency_breakdown import CLIENT_WAIT
from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.core.latency_breakdown import SHORT
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.run.service_client import time_requests
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.services.kserve import client_options
from pytest_mlperf.services.kserve.provider import TritonService
from pytest_mlperf.services.kserve.requests import TensorRequests
from pytest_mlperf.tuning.bare_loop import time_steps

THREADS = "intra_op_thread_count"
S1_WINDOWS = 64
SERVICE = TritonService()


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - its output


def open_s1() -> TensorWorkload:
    """Open a BERT of the shape in NVIDIA's tables, on windows of 384 tokens."""
    from pytest_mlperf.benchmarks.squad.windows import MAX_TOKENS
    from pytest_mlperf.benchmarks.standins import generated
    from pytest_mlperf.benchmarks.standins.graphs import BertSize

    size = BertSize(4, 288, 1152, 12, 30528)
    return generated.open_bert(size, S1_WINDOWS, fewest=MAX_TOKENS)


def open_model(name: str) -> TensorWorkload:
    """Open the embedded workload of a benchmark, or ``S1``."""
    if name == "S1":
        return open_s1()
    workload = registry.benchmark(name).open_workload("embedded", None)
    assert isinstance(workload, TensorWorkload), f"{name} takes no tensors"
    return workload


def run_engine(
    engine: Engine, workload: TensorWorkload, batches: list[list[int]]
) -> BatchTimes:
    """Run batches in this process, one after another."""
    found = [time_steps(engine, workload, batch) for batch in batches]
    means = {name: fmean(one[name] for one in found) * 1e6 for name in found[0]}
    return BatchTimes(tuple(sum(one.values()) for one in found), means)


@contextmanager
def open_engine(
    options: argparse.Namespace, workload: TensorWorkload, cache: Path
) -> Iterator[Engine]:
    """Build an engine and open one stream of it."""
    provider = registry.load("engine", options.engine)
    if why := provider.unavailable():
        sys.exit(why)
    request = BuildRequest(
        workload, options.precision, cache, batch=max(options.batches)
    )
    build = provider.build(request)
    show(f"{build.device or 'CPU'}; {build.facts}")
    threads = int(dict(options.options).get(THREADS, 1))
    with closing(provider.open(build, threads)) as engine:
        yield engine


@contextmanager
def start_triton(
    options: argparse.Namespace, workload: TensorWorkload, cache: Path
) -> Iterator[ServiceTarget]:
    """Serve the workload's model by the wheel's tritonserver, with one instance."""
    given = {"instance_group_count": "1", **dict(options.options)}
    recipe = SERVICE.embedded_server(workload, options.precision, cache, (0,), given)
    with start_server(recipe, cache / "server.log") as server:
        client = {n: text for n, text in given.items() if n in client_options.OPTIONS}
        target = ServiceTarget((server.service_url,), concurrency=1, options=client)
        yield SERVICE.check(target, workload, lambda: None)[0]


def compare(
    options: argparse.Namespace,
    workload: TensorWorkload,
    engine: Engine,
    target: ServiceTarget | None,
) -> None:
    """Measure both sides in turns and print what is found, a batch size at a time."""
    for size in options.batches:
        requests = TensorRequests(workload.dataset, (), size=size)
        loaded = min(requests.total, requests.performance_count, options.requests)
        batches = [requests.samples_of(n % loaded) for n in range(options.requests)]
        workload.dataset.load([one for batch in batches[:loaded] for one in batch])
        sides = {"in process": partial(run_engine, engine, workload, batches)}
        if target is not None:
            served = SERVICE.batched_requests(target, workload, size)
            load = BatchLoad(size, options.requests)
            sides["triton"] = partial(time_requests, SERVICE, target, served, load)
        found: dict[str, list[BatchTimes]] = {name: [] for name in sides}
        for number in range(options.rounds + 1):
            for name, run in sides.items():
                times = run()
                if number:  # the first round warms up
                    found[name].append(times)
        print_figures(size, found)


def print_figures(size: int, found: Mapping[str, Sequence[BatchTimes]]) -> None:
    """Print a batch size's rates, their ratio, and the steps of both sides."""
    head = "".join(f"{SHORT[name]:>11}" for name in (CLIENT_WAIT, *COLUMNS))
    show(f"\nbatch {size}\n{'':12}{'samples/s':>10}{head}{'mean us':>11}{'p99 us':>11}")
    for name, rounds in found.items():
        rate = size * median(one.per_s for one in rounds)
        steps = [
            fmean(one.steps_us.get(step, 0.0) for one in rounds)
            for step in (CLIENT_WAIT, *COLUMNS)
        ]
        seconds = np.concatenate([one.seconds for one in rounds])
        tail = float(np.percentile(seconds, 99)) * 1e6
        cells = "".join(f"{us:11,.0f}" for us in steps)
        show(f"{name:12}{rate:10,.1f}{cells}{seconds.mean() * 1e6:11,.0f}{tail:11,.0f}")
    if len(found) == 1:
        return
    pairs = zip(*found.values(), strict=True)
    ratios = sorted(served.per_s / own.per_s for own, served in pairs)
    show(
        f"triton / in process: {median(ratios):.3f} of its rate "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} rounds)"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", choices=("bert", "resnet50", "S1"))
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batches", type=parse_sizes, default=(1, 8, 16))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=50, help="of a round")
    parser.add_argument(
        "--options", type=parse_pairs, default=(), metavar="NAME=VALUE,...",
        help="of the service triton: protocol=grpc,shared_memory=system …",
    )  # fmt: skip
    parser.add_argument("--alone", action="store_true", help="without Triton")
    return parser.parse_args()


def main() -> None:
    """Print the figures of one model."""
    options = parse_arguments()
    workload = open_model(options.model)
    show(f"{workload.title}; {options.engine}, {options.precision}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        cache = Path(name)
        engine = stack.enter_context(open_engine(options, workload, cache))
        target = None
        if not options.alone:
            target = stack.enter_context(start_triton(options, workload, cache))
        compare(options, workload, engine, target)


if __name__ == "__main__":
    main()
