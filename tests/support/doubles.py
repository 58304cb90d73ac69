"""Engines and benchmarks that misbehave on purpose, and two that are honest.

Named by dotted spec (``tests.support.doubles:RAISING``), so that a runner's child finds
them as it finds any engine in development. The workload is ``Echo``: sample ``i`` is
the number ``i``, the model returns it, and the answer is right when it comes back.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import ChoosesPrecision
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.registry import short_name
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import Task
from tests.support import calls

MODEL = ModelFile(Path("echo.onnx"), ("number",), ("number",))
SAMPLES = 64
NOT_IN_RUN: list[int] = []


@dataclass(slots=True)
class Stream:
    """One stream of a double."""

    call: calls.Infer
    answers: bool = False
    sizes: list[int] = field(default_factory=list)

    def infer(self, batch: Batch, size: int) -> Any:
        """Hand over LoadGen's ids as well: the caller's frame has them."""
        self.sizes.append(size)
        caller = sys._getframe(1).f_locals
        ids = caller.get("ids", NOT_IN_RUN)
        if threading.current_thread().name.startswith("stream-"):
            # In a device's process the ids stay behind; there is a batch, though.
            ids = ids or caller.get("indices", NOT_IN_RUN)
        return self.call(batch, size, ids)

    def close(self) -> None:
        """Nothing is held."""


class RecordingStream(Stream):
    """Records a graph of each size at first; a run that meets a new size fails."""

    def graph_sizes(self, batch: int) -> Sequence[int]:
        return range(1, batch + 1)

    def infer(self, batch: Batch, size: int) -> Any:
        in_run = sys._getframe(1).f_locals.get("ids", NOT_IN_RUN) is not NOT_IN_RUN
        if in_run and size not in self.sizes:
            raise RuntimeError(
                f"no graph of {size} samples was recorded before the run"
            )
        return super().infer(batch, size)


@dataclass(frozen=True, slots=True)
class Double:
    """A provider whose streams run one of the functions above."""

    call: calls.Infer
    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (1, 2, 4, 8)
    spread: tuple[Streams, ...] = (Streams(1, 1),)
    answers: bool = False
    absent: str | None = None
    broken: str | None = None
    somewhere: bool = False
    """Broken only on the device whose environment has ``calls.FAULTY``."""
    precision_for: Mapping[str, str] = field(default_factory=dict)
    settle_s: float = 0.0
    stream: type[Stream] = Stream

    def unavailable(self) -> str | None:
        return self.absent

    def build(self, request: BuildRequest) -> Build:
        if self.broken and (not self.somewhere or calls.FAULTY in os.environ):
            raise BuildFailed(self.broken)
        name = getattr(self.call, "__name__", "partial")
        digest = content_hash({"engine": name, "workload": request.workload.digest})
        return Build(digest, None, request, "nothing to build")

    def open(self, build: Build, threads: int) -> Stream:  # noqa: ARG002
        return self.stream(self.call)

    def layouts(self, cpus: int) -> tuple[Streams, ...]:  # noqa: ARG002
        return self.spread


ECHO = Double(calls.echo)
ALWAYS_WRONG = Double(calls.always_wrong)
RAISING = Double(calls.raising)
FILLS_THE_DISK = Double(calls.filling_the_disk)
ALLOCATES_A_TEBIBYTE = Double(calls.allocating_a_tebibyte)
BROKEN = RAISING  # its items come before null's
RAISING_EARLY = Double(calls.raising_early)
FEWER_ROWS = Double(calls.fewer_rows)
NOT_A_NUMBER = Double(calls.not_a_number)
WRONG_SHAPE = Double(calls.wrong_shape)
SLEEPING = Double(calls.sleeping)
HOLDING_THE_GIL = Double(calls.holding_the_gil)
KILLED = Double(calls.killed)
CRASHING = Double(calls.crashing)
TWICE = Double(calls.twice)
BAD_ID = Double(calls.bad_id)
TALKING = Double(calls.talking)
BUILD_FAILS = Double(calls.echo, broken="no kernel for this machine; use fp32")
UNAVAILABLE = Double(calls.echo, absent="the accelerator is not plugged in; plug it in")
OTHER_PRECISION = Double(calls.echo, ("fp16",), precision_for={"fp32": "fp16"})
ONE_RAISES = Double(partial(calls.somewhere, call=calls.raising))
ONE_GIVES_FEWER_ROWS = Double(partial(calls.somewhere, call=calls.fewer_rows))
ONE_SLEEPS = Double(partial(calls.somewhere, call=calls.sleeping))
ONE_HOLDS_THE_GIL = Double(partial(calls.somewhere, call=calls.holding_the_gil))
ONE_IS_KILLED = Double(partial(calls.somewhere, call=calls.killed))
ONE_CRASHES = Double(partial(calls.somewhere, call=calls.crashing))
ONE_IS_SLOW = Double(
    partial(calls.somewhere, call=partial(calls.slow_sample, seconds=0.0015))
)
ONE_BUILD_FAILS = Double(
    calls.echo, broken="no kernel for this machine", somewhere=True
)
SLOW_BATCH = Double(partial(calls.slow_batch, seconds=0.005))
SLOW_SAMPLE = Double(partial(calls.slow_sample, seconds=0.002))
PAUSED = Double(calls.paused)
COLD = Double(partial(calls.cold, seconds=0.002))
RECORDING = Double(partial(calls.slow_batch, seconds=0.002), stream=RecordingStream)


class Unreadable(ArrayDataset):
    """A dataset that cannot be loaded."""

    def load(self, indices: Sequence[int]) -> None:
        raise ValueError(f"sample {indices[0]} is damaged; copy the dataset again")


class WornOut(ArrayDataset):
    """A dataset whose load fails once LoadGen asks for it: the probe saw it whole."""

    loads = 0

    def load(self, indices: Sequence[int]) -> None:
        self.loads += 1
        if self.loads > 2:  # the probe's and the warm-up's
            raise ValueError(f"sample {indices[0]} vanished; copy the dataset again")


@dataclass(frozen=True, slots=True)
class Echo:
    """The workload: sample ``i`` is the number ``i``."""

    dataset: Dataset
    kind: str = "embedded"
    title: str = "echo"
    digest: str = "echo"
    model: ModelFile = MODEL
    reference: Mapping[str, float] = field(default_factory=lambda: {"acc": 100.0})

    @property
    def blank(self) -> Array:
        return np.zeros(1, np.int32)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return int32 [batch, 1]."""
        values = outputs[0]
        if values.shape != (len(indices), 1):
            raise ValueError(
                f"the output has shape {list(values.shape)}, but should be "
                f"[{len(indices)}, 1]"
            )
        if not np.isfinite(values).all():
            raise ValueError("the output has a NaN, but should be finite")
        return Responses(values.astype(np.int32))

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return the share of samples that came back as they went, percent."""
        right = sum(
            int.from_bytes(answer, "little", signed=True) == index
            for index, answer in answers.items()
        )
        return {"acc": 100.0 * right / self.dataset.total}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        total = self.dataset.total
        good = round(metrics["acc"] * total / 100)
        return f"accuracy={metrics['acc']:.3f}%, good={good}, total={total}"


def numbers(lengths: Array | None = None, count: int = SAMPLES) -> ArrayDataset:
    """Return the honest dataset: float32 [count, 4], the number in front."""
    values = np.zeros((count, 4), np.float32)
    values[:, 0] = np.arange(count)
    return ArrayDataset({"number": values}, count, lengths)


@dataclass(frozen=True, slots=True)
class EchoBenchmark:
    """The benchmark, with a dataset of its own choice."""

    make: Callable[[], Dataset] = numbers
    name: str = "echo"
    aliases: tuple[str, ...] = ()
    metric: str = "acc"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    missing: str | None = None
    wrong: str | None = None

    def precision(self, target: str) -> str:  # noqa: ARG002
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> Echo:  # noqa: ARG002
        if self.missing:
            raise RequirementMissing(self.missing)
        if self.wrong:
            raise ValueError(self.wrong)
        return Echo(self.make(), kind)


def await_true(question: Callable[[], object], what: str, limit_s: float = 240) -> None:
    """Wait until a question is answered with something true; fail after the limit."""
    end = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < end, f"waited {limit_s:g} s in vain for {what}"
        time.sleep(0.05)


def _as(kind: type[ArrayDataset]) -> Dataset:
    honest = numbers()
    return kind(honest.arrays, honest.performance_count)


NUMBERS = EchoBenchmark()
UNREADABLE = EchoBenchmark(partial(_as, Unreadable))
WORN_OUT = EchoBenchmark(partial(_as, WornOut))
NOT_HERE = EchoBenchmark(missing="numbers.npz not found; download it from the shop")
DAMAGED = EchoBenchmark(wrong="numbers.npz is cut off; download it again")


def spec(name: str) -> str:
    """Return the dotted spec of an object of this module."""
    return f"tests.support.doubles:{name}"


def rule_for(scenario: Scenario) -> Rule:
    """Return v6.1's resnet50 rule: the doubles are held to a real one."""
    found = rounds.get("v6.1").find("resnet50", "", scenario)
    assert found is not None
    return found


def choose_precision(engine: str) -> str:
    """Return what the planner chooses for a double: fp32, or what the engine has."""
    provider = registry.load("engine", engine)
    if isinstance(provider, ChoosesPrecision):
        return provider.precision_for.get("fp32", "fp32")
    return "fp32"


QUICK = Tuning(
    batch=8,
    streams=1,
    threads=1,
    target_qps=400,
    expected_latency_ms=1,
    precision="fp32",
)
"""All that a probe would look for."""


def make_task(
    folder: Path,
    engine: str = "ECHO",
    *,
    benchmark: str = "NUMBERS",
    scenario: Scenario = Scenario.OFFLINE,
    mode: Mode = Mode.PERFORMANCE,
    seconds: float = 1,
    rule: Rule | None = None,
    **changes: Any,
) -> Task:
    """Return a task of a second or so; names in capitals are doubles of this module."""
    from pytest_mlperf.core.plan import Shortening

    engine = spec(engine) if engine.isupper() else engine
    benchmark = spec(benchmark) if benchmark.isupper() else benchmark
    tuning = changes.get("tuning", QUICK)
    made = Task(
        cell=Cell(rule or rule_for(scenario), short_name(engine)),
        mode=mode,
        seeds=rounds.get("v6.1").seeds,
        provider=registry.reference("engine", engine),
        benchmark=registry.reference("benchmark", benchmark),
        precision=tuning.precision or choose_precision(engine),
        folder=folder / "logs",
        workload="embedded",
        cache=folder / "cache",
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        tuning=QUICK,
        shortening=Shortening(int(seconds * 1000), f"--mlperf-duration {seconds:g}"),
    )
    return replace(made, **changes)
