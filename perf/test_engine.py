"""onnxruntime through the whole suite against its own best batch loop.

The baseline is measured in the same session: first a grid of streams x threads x batch,
then the best of it again, in turn with the suite's runs. Models are the embedded
ones, in the precision of the target 99.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import cache
from functools import partial

import pytest

from perf.bare_engine import BATCHES
from perf.bare_engine import Point
from perf.conftest import Replay
from perf.suite_run import ROOT
from perf.suite_run import Bench
from perf.suite_run import run_suite
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.messages import TuneTask
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import Tuned

SECONDS = 8.0
STEPS = 6
"""Of the bisection: 1.1 of the loop's rate down to 1/64 of it."""
ENOUGH = 700
"""Queries that a Server run holds at least, at any scale: early stopping wants 459
without one late query, 662 with one."""
PADDED = 384


@dataclass(frozen=True, slots=True)
class Model:
    """A benchmark that is measured here."""

    name: str
    target: str
    bound_ns: int
    """Server's bound for the bisection; the round's own may be out of reach."""


RESNET50 = Model("resnet50", "", 100_000_000)
BERT = Model("bert", "99", 130_000_000)
SIDES = ("suite", "suite-same-layout", "bare")
"""The suite as its probe tunes it, the suite on the best layout of the grid, and the
bare loop on that."""
PADDED_SIDES = (*SIDES, f"bare-padded-to-{PADDED}", "bare-unsorted")
OFFLINE = [(model, side) for model, sides in ((RESNET50, SIDES), (BERT, PADDED_SIDES))
           for side in sides]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """What the bare loop of a model reaches at every layout and batch."""

    bench: Bench
    model: Model
    rates: dict[Point, float]

    @property
    def best(self) -> Point:
        return max(self.rates, key=lambda point: self.rates[point])

    @property
    def rate(self) -> float:
        """Samples/s at the best point."""
        return self.rates[self.best]

    def measure_best(self, *options: str, share: float = 1.0) -> float:
        """Return samples/s of the best point again, over a share of a run's data."""
        seconds = SECONDS * self.bench.scale
        samples = int(share * seconds * self.rate)
        sizes = ("--seconds", str(0.5 * seconds), "--samples", str(samples))
        rates = run_loop(self.bench, self.model, str(self.best), *sizes, *options)
        return rates[self.best]


def run_loop(bench: Bench, model: Model, *arguments: str) -> dict[Point, float]:
    """Return samples/s of the bare loop in a fresh process."""
    command = [sys.executable, "-m", "perf.bare_engine", model.name, model.target]
    command += [str(bench.cache), *arguments]
    ended = subprocess.run(
        command, check=True, cwd=ROOT, timeout=900, stdout=subprocess.PIPE, text=True
    )
    rates: dict[str, float] = json.loads(ended.stdout)
    return {Point.parse(text): rate for text, rate in rates.items()}


@cache
def measure_grid(bench: Bench, model: Model) -> Grid:
    """Return the model's grid, every point for a second."""
    samples = str(int(128 * bench.scale) + max(BATCHES))
    sizes = ("--seconds", str(bench.scale), "--samples", samples)
    return Grid(bench, model, run_loop(bench, model, *sizes))


@dataclass(frozen=True, slots=True)
class OfflineRun:
    """One run of either side."""

    rate: float
    layout: str


def run_offline(bench: Bench, model: Model, tuning: Tuning) -> OfflineRun:
    """Run Offline through the suite, which answers every sample."""
    result = run_suite(
        bench.make_task(
            model.name,
            model.target,
            Scenario.OFFLINE,
            "onnxruntime",
            seconds=SECONDS,
            tuning=tuning,
        )
    )
    log, texts = result.log, result.done.facts.to_texts()
    issued = log.integer("generated_samples_per_query")
    assert issued == log.integer("effective_min_sample_count")
    layout = f"{texts['streams x threads']}, batch {texts['batch']}"
    return OfflineRun(log.number("result_samples_per_second"), layout)


@cache
def measure_offline(bench: Bench, model: Model) -> dict[str, list[OfflineRun]]:
    """Return Offline of every side."""
    grid = measure_grid(bench, model)
    tuning = replace(grid.best.tuning, target_qps=1.15 * grid.rate)

    def run_bare(*options: str, share: float = 1.0) -> OfflineRun:
        return OfflineRun(grid.measure_best(*options, share=share), str(grid.best))

    measures = (
        partial(run_offline, bench, model, Tuning()),
        partial(run_offline, bench, model, tuning),
        run_bare,
        partial(run_bare, "--pad", str(PADDED), share=0.3),
        partial(run_bare, "--unsorted"),
    )
    sides = PADDED_SIDES if model is BERT else SIDES
    return bench.alternate(dict(zip(sides, measures, strict=False)))


@pytest.mark.parametrize(
    ("model", "side"),
    OFFLINE,
    ids=[f"{model.name}-{side}" for model, side in OFFLINE],
)
def test_offline(model: Model, side: str, bench: Bench, replay: Replay) -> None:
    """The suite beside the bare loop; its batches sorted and unpadded or not."""
    runs = measure_offline(bench, model)[side]
    grid = measure_grid(bench, model).rates
    replay.report_rates(
        f"{model.name} Offline",
        [run.rate for run in runs],
        "sample",
        layouts=[run.layout for run in runs],
        grid={str(point): rate for point, rate in grid.items()},
    )


@dataclass(slots=True)
class ServerSearch:
    """A bisection for the largest load that LoadGen calls VALID."""

    grid: Grid
    runner: Runner
    tuning: Tuning = field(default_factory=Tuning)
    largest: float = 0.0
    trials: list[str] = field(default_factory=list)
    loops: list[float] = field(default_factory=list)
    """Samples/s of the bare loop before, amid and after the trials."""

    def find_load(self) -> None:
        self.loops.append(self.grid.measure_best())
        high = 1.1 * self.grid.rate
        self.tuning = self.choose_layout(high)
        for step in range(STEPS):
            if step == STEPS // 2:
                self.loops.append(self.grid.measure_best())
            low = self.largest
            qps = (low + high) / 2 if low else 0.75 * high
            # A second try: one stall of a shared machine spoils a short run's p99.
            if self.is_valid(qps) or self.is_valid(qps):
                self.largest = qps
            else:
                high = qps
        self.loops.append(self.grid.measure_best())

    def choose_layout(self, qps: float) -> Tuning:
        """Return the layout that the suite chooses itself, for all runs."""
        chosen = self.runner.obey(TuneTask(self.make_task(qps, SECONDS)))
        assert isinstance(chosen, Tuned), "an engine answers"
        streams = chosen.streams
        return Point(streams.count, streams.threads, chosen.batch).tuning

    def is_valid(self, qps: float) -> bool:
        result = run_suite(
            self.make_task(qps, max(SECONDS, ENOUGH / qps / self.grid.bench.scale)),
            self.runner,
        )
        tail_ms = result.log.number("result_99.00_percentile_latency_ns") / 1e6
        word = "valid" if result.valid else "invalid"
        self.trials.append(f"{qps:.1f}/s {word}, p99 {tail_ms:.0f} ms")
        return result.valid

    def make_task(self, qps: float, seconds: float) -> Task:
        model = self.grid.model
        return self.grid.bench.make_task(
            model.name,
            model.target,
            Scenario.SERVER,
            "onnxruntime",
            seconds=seconds,
            tuning=replace(self.tuning, target_qps=qps),
            bound_ns=model.bound_ns,
        )


@cache
def find_server_load(bench: Bench, model: Model) -> ServerSearch:
    """Return the largest VALID load of the model, and its bare loop meanwhile."""
    runner = Runner(build_s=600.0)
    search = ServerSearch(measure_grid(bench, model), runner)
    try:
        search.find_load()
    finally:
        runner.close()
    return search


@pytest.mark.parametrize("model", [RESNET50, BERT], ids=lambda model: model.name)
@pytest.mark.parametrize("side", ["suite", "bare"])
def test_server(side: str, model: Model, bench: Bench, replay: Replay) -> None:
    """The largest load that LoadGen calls VALID at the stated bound."""
    search = find_server_load(bench, model)
    if not search.largest:
        pytest.skip(f"LoadGen called no load VALID: {'; '.join(search.trials)}")
    replay.report_rates(
        f"{model.name} Server p99 <= {model.bound_ns / 1e6:g} ms",
        [search.largest] if side == "suite" else search.loops,
        "query",
        tuning=str(search.tuning),
        trials=search.trials,
    )

    assert len(search.trials) >= STEPS
