"""Engines and benchmarks that misbehave on purpose, and two that are honest.

Named by dotted spec (``tests.support.doubles:RAISING``), so that a runner's child finds
them as it finds any engine in development. The workload is ``Echo``: sample ``i`` is
the number ``i``, the model returns it, and the answer is right when it comes back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
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

FOREVER_S = 3600
MODEL = ModelFile(Path("echo.onnx"), ("number",), ("number",))
SAMPLES = 64
NOT_IN_RUN: list[int] = []
FAULTY = "DOUBLE_FAULTY"
PAUSE, PAUSE_S = "DOUBLE_PAUSE", 3.0

Infer = Callable[[Batch, int, list[int]], Any]
"""(batch, size, LoadGen's ids of the batch; none outside LoadGen) -> outputs."""


def first(batch: Batch) -> Array:
    return next(iter(batch.values()))


def echo(batch: Batch, size: int, ids: list[int]) -> Any:  # noqa: ARG001
    """Return each sample's number; for pictures 1000 scores that say class 0."""
    values = first(batch)
    if values.ndim == 2:
        return [values[:, :1].copy()]
    return [np.zeros((len(values), 1000), np.float32)]


def always_wrong(batch: Batch, size: int, ids: list[int]) -> Any:
    return [output + 1 for output in echo(batch, size, ids)]


def raising(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise RuntimeError("the third-party engine broke in the middle")
    return echo(batch, size, ids)


def raising_early(batch: Batch, size: int, ids: list[int]) -> Any:  # noqa: ARG001
    raise RuntimeError("the third-party engine never worked")


def filling_the_disk(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/x")
    return echo(batch, size, ids)


def allocating_a_tebibyte(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        np.ones(1 << 40, np.uint8)
    return echo(batch, size, ids)


def fewer_rows(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    return [output[:-1] for output in outputs] if ids else outputs


def not_a_number(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    if ids:
        outputs[0][-1, 0] = np.nan
    return outputs


def wrong_shape(batch: Batch, size: int, ids: list[int]) -> Any:
    outputs = echo(batch, size, ids)
    return [output[:, None, :] for output in outputs] if ids else outputs


def sleeping(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        time.sleep(FOREVER_S)
    return echo(batch, size, ids)


def holding_the_gil(batch: Batch, size: int, ids: list[int]) -> Any:
    """Hang in C without letting any other Python thread run: no heartbeat either."""
    if ids:
        ctypes.PyDLL(None).sleep(FOREVER_S)
    return echo(batch, size, ids)


def killed(batch: Batch, size: int, ids: list[int]) -> Any:
    """Die as under the kernel's out-of-memory killer."""
    if ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return echo(batch, size, ids)


def crashing(batch: Batch, size: int, ids: list[int]) -> Any:
    """Read address 0, as a broken native library does."""
    if ids:
        ctypes.string_at(0)
    return echo(batch, size, ids)


def twice(batch: Batch, size: int, ids: list[int]) -> Any:
    """Complete samples that the SUT is about to complete itself."""
    if ids:
        _complete(ids)
    return echo(batch, size, ids)


def bad_id(batch: Batch, size: int, ids: list[int]) -> Any:
    if ids:
        _complete([12345])
    return echo(batch, size, ids)


def talking(batch: Batch, size: int, ids: list[int]) -> Any:
    """Print as chatty libraries do: a variable of the runner's environment."""
    os.write(2, f"engine says {os.environ.get('DOUBLE_SAYS')}\n".encode())
    return echo(batch, size, ids)


def _complete(ids: list[int]) -> None:
    from pytest_mlperf.sut import loadgen

    loadgen.complete([loadgen.response(one, 0, 0) for one in ids])


def slow_batch(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take the same time for a batch of any size."""
    time.sleep(seconds)
    return echo(batch, size, ids)


def slow_sample(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take the same time for every sample."""
    time.sleep(seconds * size)
    return echo(batch, size, ids)


def cold(batch: Batch, size: int, ids: list[int], seconds: float) -> Any:
    """Take time for every sample, and batches of more than one take twice that."""
    time.sleep(seconds * size * (2 if size > 1 else 1))
    return echo(batch, size, ids)


def paused(batch: Batch, size: int, ids: list[int]) -> Any:
    """Stand still for a while, once for each time that the file ``PAUSE`` is made."""
    if ids:
        with suppress(OSError):
            Path(os.environ[PAUSE]).unlink()
            time.sleep(PAUSE_S)
    return slow_sample(batch, size, ids, 0.002)


@dataclass(slots=True)
class Warming:
    """An engine that is three times as slow once it has worked for a while."""

    seconds: float
    cold_batches: int

    def __call__(self, batch: Batch, size: int, ids: list[int]) -> Any:
        self.cold_batches -= 1
        time.sleep(self.seconds * (1 if self.cold_batches > 0 else 3))
        return echo(batch, size, ids)


def somewhere(batch: Batch, size: int, ids: list[int], call: Infer) -> Any:
    """Misbehave on one of several devices; take a while for a sample on each."""
    if FAULTY in os.environ:
        return call(batch, size, ids)
    return slow_sample(batch, size, ids, 0.0005)


@dataclass(slots=True)
class Stream:
    """One stream of a double."""

    call: Infer
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

    call: Infer
    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (1, 2, 4, 8)
    spread: tuple[Streams, ...] = (Streams(1, 1),)
    answers: bool = False
    absent: str | None = None
    broken: str | None = None
    somewhere: bool = False
    """Broken only on the device whose environment has ``FAULTY``."""
    precision_for: Mapping[str, str] = field(default_factory=dict)
    settle_s: float = 0.0
    stream: type[Stream] = Stream

    def unavailable(self) -> str | None:
        return self.absent

    def build(self, request: BuildRequest) -> Build:
        if self.broken and (not self.somewhere or FAULTY in os.environ):
            raise BuildFailed(self.broken)
        name = getattr(self.call, "__name__", "partial")
        digest = content_hash({"engine": name, "workload": request.workload.digest})
        return Build(digest, None, request, "nothing to build")

    def open(self, build: Build, threads: int) -> Stream:  # noqa: ARG002
        return self.stream(self.call)

    def layouts(self, cpus: int) -> tuple[Streams, ...]:  # noqa: ARG002
        return self.spread


ECHO = Double(echo)
ALWAYS_WRONG = Double(always_wrong)
RAISING = Double(raising)
FILLS_THE_DISK = Double(filling_the_disk)
ALLOCATES_A_TEBIBYTE = Double(allocating_a_tebibyte)
BROKEN = RAISING  # its items come before null's
RAISING_EARLY = Double(raising_early)
FEWER_ROWS = Double(fewer_rows)
NOT_A_NUMBER = Double(not_a_number)
WRONG_SHAPE = Double(wrong_shape)
SLEEPING = Double(sleeping)
HOLDING_THE_GIL = Double(holding_the_gil)
KILLED = Double(killed)
CRASHING = Double(crashing)
TWICE = Double(twice)
BAD_ID = Double(bad_id)
TALKING = Double(talking)
BUILD_FAILS = Double(echo, broken="no kernel for this machine; use fp32")
UNAVAILABLE = Double(echo, absent="the accelerator is not plugged in; plug it in")
OTHER_PRECISION = Double(echo, ("fp16",), precision_for={"fp32": "fp16"})
ONE_RAISES = Double(partial(somewhere, call=raising))
ONE_GIVES_FEWER_ROWS = Double(partial(somewhere, call=fewer_rows))
ONE_SLEEPS = Double(partial(somewhere, call=sleeping))
ONE_HOLDS_THE_GIL = Double(partial(somewhere, call=holding_the_gil))
ONE_IS_KILLED = Double(partial(somewhere, call=killed))
ONE_CRASHES = Double(partial(somewhere, call=crashing))
ONE_IS_SLOW = Double(partial(somewhere, call=partial(slow_sample, seconds=0.0015)))
ONE_BUILD_FAILS = Double(echo, broken="no kernel for this machine", somewhere=True)
SLOW_BATCH = Double(partial(slow_batch, seconds=0.005))
SLOW_SAMPLE = Double(partial(slow_sample, seconds=0.002))
PAUSED = Double(paused)
COLD = Double(partial(cold, seconds=0.002))
RECORDING = Double(partial(slow_batch, seconds=0.002), stream=RecordingStream)


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
