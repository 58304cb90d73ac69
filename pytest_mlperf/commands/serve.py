"""``pytest-mlperf serve``: a benchmark's built engine as a KServe v2 server."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from pytest_mlperf.api import registry
from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.benchmark import Rehearsal
from pytest_mlperf.api.benchmark import Rehearses
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import ChoosesPrecision
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import TakesOptions
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.served_model import ServesModels
from pytest_mlperf.commands.shared.arguments import add_workload_arguments
from pytest_mlperf.commands.shared.arguments import name_own_options
from pytest_mlperf.commands.shared.arguments import parse_count
from pytest_mlperf.config.contradictions import ORACLE
from pytest_mlperf.config.option_types import parse_pairs
from pytest_mlperf.config.option_types import parse_whole
from pytest_mlperf.config.options import find_cache
from pytest_mlperf.core import matrix
from pytest_mlperf.core import rounds
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.types import Mode
from pytest_mlperf.run.served_engine import ServedEngine
from pytest_mlperf.run.served_engine import require_served

HELP = "serve a benchmark's built engine over KServe v2, for LoadGen on another host"
ENDED, REFUSED = 0, 2
MAX_BATCH = 16
REHEARSED = {"engine": ORACLE, "workload": "synthetic", "precision": "fp32"}
"""What --rehearsal means."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", metavar="BENCHMARK", help="such as bert, resnet50")
    parser.add_argument(
        "--engine", default="onnxruntime", metavar="NAME",
        help="what answers: onnxruntime (default), torch, tensorrt …",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, which other hosts cannot "
        "reach; 0.0.0.0: every one). There is no authentication",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N",
        help="to listen on (default: 8000; 0: a free one, which is printed)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", metavar="NAME",
        help="such as fp32, int8 or fp16 (default: the benchmark's for its target)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=parse_count, default=MAX_BATCH, metavar="N",
        help=f"samples of a batch at most (default: {MAX_BATCH})",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=parse_streams, metavar="NxT",
        help="parallel streams x threads in each (default: the engine's layout for "
        "throughput)",
    )  # fmt: skip
    parser.add_argument(
        "--engine-options", default="", metavar="NAME=VALUE,...",
        help="what only this engine understands",
    )  # fmt: skip
    parser.add_argument(
        "--name", metavar="NAME",
        help="what the server calls its host, which names the SUT (default: the host's "
        "own name)",
    )  # fmt: skip
    parser.add_argument(
        "--rehearsal", action="store_true",
        help="serve the true answers of synthetic data, after a simulated time, to a "
        "session with --mlperf-rehearsal; nothing is inferred",
    )  # fmt: skip
    add_workload_arguments(parser)
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", default=find_cache(os.environ, Path.cwd()),
        help="folder of built engines (default: pytest-mlperf in XDG_CACHE_HOME or "
        "~/.cache)",
    )  # fmt: skip


def parse_streams(text: str) -> Streams:
    """Return a layout such as ``2x4``."""
    count, _, threads = text.partition("x")
    try:
        return Streams(parse_whole(count), parse_whole(threads))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}, but should be streams x threads of each, such as 2x4"
        ) from None


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code."""
    try:
        serve(arguments)
    except (BuildFailed, RequirementMissing, RunRefused, ValueError) as error:
        sys.stderr.write(f"pytest-mlperf serve: {name_own_options(error)}\n")
        return REFUSED
    return ENDED


def serve(arguments: argparse.Namespace) -> None:
    """Build, open and serve the engine; print where it is."""
    server = registry.provider("triton")
    assert isinstance(server, ServesModels)
    with wait_for_end() as ended:
        served = build_engine(arguments)
        node = arguments.name or gethostname()
        with (
            served.open() as model,
            server.serve(model, arguments.host, arguments.port, node) as url,
        ):
            sys.stdout.write(
                f"serving {model.name} ({model.platform}) at {url}, {served.streams} "
                f"streams x threads, batches up to {model.max_batch}; it ends with "
                "Ctrl-C or SIGTERM\n"
            )
            sys.stdout.flush()
            ended.wait()
    sys.stdout.write("ended: what had been asked was answered\n")


@contextmanager
def wait_for_end() -> Iterator[threading.Event]:
    """Give what SIGTERM and Ctrl-C set."""
    ended = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def build_engine(arguments: argparse.Namespace) -> ServedEngine:
    """Return the engine, built or found in the cache."""
    if arguments.rehearsal:
        vars(arguments).update(REHEARSED)
    benchmark = choose_benchmark(arguments)
    if registry.provider_kind(arguments.engine) != "engine":
        raise ValueError(
            f"--engine {arguments.engine} is a service, but should be an engine"
        )
    provider: EngineProvider = registry.load("engine", arguments.engine)
    if provider.answers:
        raise ValueError(
            f"--engine {arguments.engine} gives answers without a model; choose one "
            "that infers"
        )
    if missing := provider.unavailable():
        raise RequirementMissing(missing)
    options = read_engine_options(arguments, provider)
    precision = arguments.precision or benchmark.precision("")
    if not arguments.precision and isinstance(provider, ChoosesPrecision):
        precision = provider.precision_for.get(precision, precision)
    if precision not in provider.precisions:
        raise ValueError(
            f"--precision {precision}: {arguments.engine} has "
            f"{', '.join(provider.precisions)}"
        )
    scratch = Path(arguments.scratch) if arguments.scratch else None
    opened = benchmark.open_workload(arguments.workload, scratch)
    workload = require_served(opened, benchmark.name)
    build = provider.build(
        BuildRequest(workload, precision, arguments.cache, options, arguments.batch)
    )
    cpus = len(os.sched_getaffinity(0))
    streams = arguments.streams or provider.layouts(cpus)[0]
    platform = f"{arguments.engine}, {precision}"
    return ServedEngine(
        benchmark.name, platform, provider, build, streams, arguments.batch
    )


def choose_benchmark(arguments: argparse.Namespace) -> Benchmark:
    """Return who opens the workload; of a rehearsal, who makes it up.

    Raises ``ValueError`` for a benchmark that is not known or not rehearsed.
    """
    benchmark = registry.benchmark(arguments.benchmark)
    if not arguments.rehearsal:
        return benchmark
    if isinstance(benchmark, Rehearses) and benchmark.rehearses:
        return benchmark
    every = [rule for name in rounds.ROUNDS for rule in rounds.get(name).rules]
    own = [rule for rule in every if rule.benchmark == benchmark.name]
    if not matrix.find_rehearsable(own):
        raise ValueError(
            f"--rehearsal: {benchmark.name} is timed by tokens, which an oracle has not"
        )
    rehearsal: Rehearsal = registry.reference("rehearsal", "synthetic").load()
    return rehearsal.rehearse(own[-1], Mode.PERFORMANCE)


def read_engine_options(
    arguments: argparse.Namespace, provider: EngineProvider
) -> dict[str, str]:
    """Return the engine's options; raises ``ValueError`` for what it does not take."""
    text = arguments.engine_options
    options = dict(parse_pairs(text)) if text else {}
    known = provider.options if isinstance(provider, TakesOptions) else {}
    if unknown := [name for name in options if name not in known]:
        raise ValueError(
            f"--engine-options {unknown[0]}: {arguments.engine} takes "
            f"{', '.join(known) or 'none'}"
        )
    if isinstance(provider, TakesOptions):
        provider.check_options(options)
    return options
