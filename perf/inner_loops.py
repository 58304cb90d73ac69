"""Offline beside the references' inner loops: ``python -m perf.inner_loops [NAME...]``.

For the embedded models of detection, segmentation, speech, diffusion and graphs, three
sides are measured in turn, all with one fp32 model and the workload's own answers: the
inner loop of the reference application, the suite with LoadGen, and the engine's own
batches at the layout that the suite chose. Whisper has a second row, in which the suite
runs its default precision, int8, with the accuracy limit of fp32. ``--provider`` has
onnxruntime compute the suite's sides with another execution provider. The output is a
Markdown table of medians; a ratio is the median of the pairs', with the smallest and
the largest in brackets.

The reference's loop is written here after its code (mlcommons/inference b66003e): how
many samples it runs at once, in how many threads, on one session with onnxruntime's
defaults. What it does beside that is left out in its favor: its own post-processing and
its calls of LoadGen. Only a quiet machine gives figures.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from perf.bare_engine import Point
from perf.bare_engine import index_batches
from perf.suite_run import Bench
from perf.suite_run import run_suite
from pytest_mlperf.api import registry
from pytest_mlperf.api.components import model_components
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Engine
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload
from pytest_mlperf.config.options import find_cache
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.onnxruntime import OrtComponents
from pytest_mlperf.engines.onnxruntime import OrtEngine
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.messages import TuneTask
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.bare_loop import bare_loop
from pytest_mlperf.tuning.bare_loop import time_batch

GOALS = {"reference": 1.3, "bare": 0.97}
"""Of the suite's rate to that side's."""
CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Loop:
    """How the reference application runs samples Offline, as it comes."""

    benchmark: str
    batch: int
    callers: int
    """Threads that run batches on the one session."""
    source: str
    target: str = ""
    engine: str = "onnxruntime"
    precision: str = "fp32"
    """The suite's; the reference's is fp32."""


VISION = "vision/classification_and_detection/python/main.py: QueueRunner"
WHISPER = "speech2text/reference_SUT.py"
LOOPS = (
    Loop("retinanet", 1, CPUS, VISION),
    Loop("ssd-small", 32, CPUS, VISION),
    Loop("ssd-large", 1, CPUS, VISION),
    Loop("3d-unet", 1, 1, "3d-unet-kits19/base_SUT.py: a window a run", target="99"),
    Loop("rnnt", 1, 1, "rnnt/pytorch_SUT.py: a recording at a time"),
    Loop("whisper", 16, 1, WHISPER, engine="ctranslate2"),
    Loop("whisper", 16, 1, WHISPER, engine="ctranslate2", precision="int8"),
    Loop("stable-diffusion-xl", 1, 1, "text_to_image/main.py: --max-batchsize"),
    Loop("rgat", 1, 1, "graph/R-GAT/main.py: --max-batchsize"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """An embedded workload, opened and built in a precision."""

    loop: Loop
    workload: TensorWorkload
    open_engine: Callable[[int], Engine]
    """Takes the number of threads."""

    @classmethod
    def open(
        cls, loop: Loop, cache: Path, precision: str, options: Mapping[str, str]
    ) -> Model:
        provider: EngineProvider = registry.load("engine", loop.engine)
        workload = registry.benchmark(loop.benchmark).open_workload("embedded", None)
        assert isinstance(workload, TensorWorkload)
        build = provider.build(BuildRequest(workload, precision, cache, options))
        workload.dataset.load(range(workload.dataset.total))
        return cls(loop, workload, partial(provider.open, build))

    def open_reference(self) -> Engine:
        """Return sessions as the reference opens them; Whisper's with all CPUs."""
        parts = model_components(self.workload)
        if parts is not None:
            sessions = {name: open_session(one) for name, one in parts.parts.items()}
            return OrtComponents(sessions, parts.run)
        graph = getattr(self.workload, "model", None)
        return self.open_engine(CPUS) if graph is None else open_session(graph)


def open_session(model: ModelFile) -> OrtEngine:
    """Open a graph with onnxruntime's defaults: a thread for every CPU."""
    import onnxruntime as ort

    session: Any = ort.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    return OrtEngine(session, list(model.outputs))


class ReferenceLoop:
    """Runs the samples as LoadGen orders them, in the reference's batches."""

    def __init__(self, model: Model) -> None:
        self.engine, self.loop = model.open_reference(), model.loop
        self.workload = model.workload
        if isinstance(self.workload, SegmentationWorkload):
            self.workload = replace(self.workload, windows_a_run=1)

    def measure(self, seconds: float) -> float:
        """Return samples/s."""
        count = max(self.loop.batch * 64, self.workload.dataset.total)
        todo = itertools.cycle(
            index_batches(self.workload, self.loop.batch, count, is_sorted=False)
        )
        done, lock, started = [0], threading.Lock(), time.perf_counter()

        def call() -> None:
            while time.perf_counter() - started < seconds:
                with lock:
                    batch = next(todo)
                time_batch(self.engine, self.workload, batch)
                with lock:
                    done[0] += len(batch)

        callers = [threading.Thread(target=call) for _ in range(self.loop.callers)]
        for one in callers:
            one.start()
        for one in callers:
            one.join()
        return done[0] / (time.perf_counter() - started)


@dataclass(slots=True)
class SuiteLoop:
    """The suite with LoadGen, and the engine's own loop at the same layout."""

    model: Model
    bench: Bench
    runner: Runner
    seconds: float
    options: Mapping[str, str]
    tuning: Tuning
    engines: Sequence[Engine]
    samples: int = 0
    """Of the suite's last run: the bare loop has as many."""

    @classmethod
    def tune(
        cls, model: Model, bench: Bench, runner: Runner, seconds: float,
        options: Mapping[str, str],
    ) -> SuiteLoop:  # fmt: skip
        """Let the suite choose the layout, once for all runs of both."""
        precision = model.loop.precision
        start = Tuning(precision=precision)
        found = cls(model, bench, runner, seconds, options, start, ())
        chosen = runner.obey(TuneTask(found.make_task()))
        assert isinstance(chosen, Tuned), "an engine answers"
        streams = chosen.streams
        point = Point(streams.count, streams.threads, chosen.batch)
        found.tuning = replace(point.tuning, precision=precision)
        found.engines = [model.open_engine(point.threads) for _ in range(point.streams)]
        found.samples = 4 * point.batch * point.streams
        found.measure_bare()  # the first batches are slow
        rate = found.measure_bare()
        found.tuning = replace(found.tuning, target_qps=1.05 * rate)
        return found

    def make_task(self) -> Task:
        loop = self.model.loop
        task = self.bench.make_task(
            loop.benchmark,
            loop.target,
            Scenario.OFFLINE,
            loop.engine,
            seconds=self.seconds,
            tuning=self.tuning,
        )
        return replace(task, engine_options=self.options)

    def measure_suite(self) -> float:
        """Return LoadGen's samples/s."""
        log = run_suite(self.make_task(), self.runner).log
        self.samples = log.integer("generated_samples_per_query")
        return log.number("result_samples_per_second")

    def measure_bare(self) -> float:
        """Return samples/s of the same layout without LoadGen."""
        batch = self.tuning.batch or 1
        batches = index_batches(
            self.model.workload, batch, self.samples, is_sorted=True
        )
        with quiet_interpreter():
            return bare_loop(self.engines, self.model.workload, batches, 1.0)


def measure(
    loop: Loop, folder: Path, args: argparse.Namespace
) -> tuple[str, dict[str, list[float]]]:
    """Return the suite's layout, and every side's samples/s, run in turn."""
    cache, seconds = args.cache, args.seconds
    is_ort = loop.engine == "onnxruntime"
    options = {"provider": args.provider} if args.provider and is_ort else {}
    model = Model.open(loop, cache, loop.precision, options)
    cpus, runner = tuple(sorted(os.sched_getaffinity(0))), Runner(build_s=600.0)
    bench = Bench(folder, cache, cpus, args.pairs, 1.0)
    try:
        suite = SuiteLoop.tune(model, bench, runner, seconds, options)
        reference = ReferenceLoop(Model.open(loop, cache, "fp32", {}))
        reference.measure(0.5)
        sides: dict[str, Callable[[], float]] = {
            "reference": partial(reference.measure, seconds),
            "suite": suite.measure_suite,
            "bare": suite.measure_bare,
        }
        rates = bench.alternate(sides)
    finally:
        runner.close()
    tuning = suite.tuning
    return f"{tuning.streams} x {tuning.threads}, batch {tuning.batch}", rates


def make_row(loop: Loop, layout: str, rates: Mapping[str, list[float]]) -> str:
    """Return a line of the table."""
    in_precision = "" if loop.precision == "fp32" else f", {loop.precision}"
    cells = [
        f"{loop.benchmark}{in_precision}",
        f"{loop.callers} x {CPUS}, batch {loop.batch}",
        layout,
    ]
    cells += [f"{median(rates[side]):,.3g}" for side in rates]
    for side, goal in GOALS.items():
        pairs = zip(rates["suite"], rates[side], strict=True)
        ratios = sorted(ours / other for ours, other in pairs)
        middle = median(ratios)
        missed = "" if middle >= goal else f", below {goal}"
        cells.append(f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}){missed}")
    return f"| {' | '.join(cells)} |"


def make_table(args: argparse.Namespace) -> Iterator[str]:
    """Yield the table's lines as they are measured."""
    yield (
        "| benchmark | reference: threads x CPUs | suite: streams x threads"
        " | reference /s | suite /s | bare /s | suite / reference | suite / bare |"
    )
    yield f"|---|---|---|{'--:|' * 5}"
    for loop in LOOPS:
        if args.benchmarks and loop.benchmark not in args.benchmarks:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measure(loop, Path(folder), args)
        yield make_row(loop, *found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m perf.inner_loops")
    names = list(dict.fromkeys(loop.benchmark for loop in LOOPS))
    parser.add_argument("benchmarks", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each side's run")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--provider", metavar="NAME", help="such as OpenVINO")
    cache = find_cache(os.environ, Path.cwd())
    parser.add_argument("--cache", type=Path, default=cache, metavar="DIR")
    args = parser.parse_args()
    if unknown := set(args.benchmarks) - set(names):
        parser.error(f"{min(unknown)} should be one of {', '.join(names)}")
    for line in make_table(args):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
