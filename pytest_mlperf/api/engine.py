"""What an engine must offer: find out if it can run, build once, open per stream.

An engine is one file and one entry point (group ``pytest_mlperf.engines``) that names
an object with the methods of ``EngineProvider``. Nothing is subclassed. What only some
engines can do is a protocol of its own, which an engine has by having its members.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.residency.rules import Residency


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build: a workload's model in a precision, for this machine."""

    workload: TensorWorkload
    precision: str
    """``fp32``, ``int8`` … one of ``EngineProvider.precisions``."""
    cache: Path
    """Folder for built artefacts; the provider names them by content hash."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Engine options, such as ``provider`` for onnxruntime."""
    batch: int | None = None
    """Largest batch that will be asked for, where it is known beforehand."""
    beat: Callable[[], None] = lambda: None
    """To be called as a long build gets on, so that a watchdog sees life."""
    residency: Residency = field(default_factory=Residency)
    """Whether streams start from and end on the device; the build is the same."""


@dataclass(frozen=True, slots=True)
class Build:
    """A built engine on disk, known by everything that went into it."""

    digest: str
    """Content hash: model, precision, options, library versions and device."""
    path: Path | None
    request: BuildRequest
    report: str
    """One line for people: ``built in 3.1 s`` or ``cached``."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> words for people."""
    details: object = None
    """The engine's own value, which ``open`` gets back."""
    uses_gpu: bool = True
    """False for an engine that leaves a visible GPU alone."""
    device: str = ""
    """The device as the engine calls it, where it knows."""
    weight_transformations: str = ""
    """How the weights were made smaller, as a submission describes it."""


@dataclass(frozen=True, slots=True)
class Streams:
    """How an engine is spread over a device: parallel streams x threads in each."""

    count: int
    threads: int

    def __str__(self) -> str:
        return f"{self.count} x {self.threads}"


class Engine(Protocol):
    """One stream: runs a batch at a time and is used from one thread at a time."""

    @property
    def answers(self) -> bool:
        """The provider's ``answers``."""

    def infer(self, batch: Batch, size: int) -> Any:
        """Return the model's outputs as a sequence of arrays, each with ``size`` rows
        (axis 0); with ``answers``, the finished answers as one array.
        """

    def close(self) -> None:
        """Let go of memory and device."""


class EngineProvider(Protocol):
    """What an entry point names."""

    @property
    def precisions(self) -> tuple[str, ...]: ...

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes worth trying, ascending."""

    @property
    def answers(self) -> bool:
        """True when ``infer`` returns finished answers as one array, without looking
        at the inputs (``null``): gathering and post-processing are left out.
        """

    def unavailable(self) -> str | None:
        """Say which package or device is missing and how to get it, or None.

        Asked in pytest's process where the user names the engine
        (``ChecksInOwnProcess``), and in the runner's.
        """

    def build(self, request: BuildRequest) -> Build:
        """Build, or find the build in the cache. Slow; untimed.

        Raises ``BuildFailed``, or ``RequirementMissing`` for what can be installed.
        """

    def open(self, build: Build, threads: int) -> Engine:
        """Open one stream of a build with that many threads."""

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        """Return the layouts worth trying on a device with that many CPUs, for
        throughput; the last one is the layout for latency (one stream).
        """


# What only some providers can do.


@runtime_checkable
class ChoosesPrecision(Protocol):
    """A provider that runs another precision than a benchmark's default."""

    @property
    def precision_for(self) -> Mapping[str, str]:
        """A benchmark's default precision -> the one that this engine runs instead
        where nobody chose; held to the same target.
        """


@runtime_checkable
class ComparesPrecisions(Protocol):
    """A provider some of whose precisions are not faster on every CPU."""

    @property
    def more_exact(self) -> Mapping[str, tuple[str, ...]]:
        """A benchmark's default precision -> more exact ones, which keep the same
        accuracy target. Where nobody chose and the CPU has no instructions made for
        int8, they are timed beside the default, and the fastest is run.
        """


@runtime_checkable
class ChecksInOwnProcess(Protocol):
    """A provider whose ``unavailable`` loads a framework or a GPU's driver."""

    @property
    def checks_in_own_process(self) -> bool:
        """True: ``unavailable`` is asked in a process of its own, not in pytest's."""


@runtime_checkable
class TakesOptions(Protocol):
    """A provider that reads ``BuildRequest.options`` (--mlperf-engine-options).

    An engine without this ability takes none.
    """

    @property
    def options(self) -> Mapping[str, str]:
        """Name -> what it says, in words that follow it in a message."""

    def check_options(self, given: Mapping[str, str]) -> None:
        """Raise ``ValueError`` for an illegal value; before the first item."""


@runtime_checkable
class KeepsSamplesOnDevice(Protocol):
    """A provider that can start from, or end on, the device."""

    @property
    def on_device(self) -> frozenset[str]:
        """Which of ``start_from_device`` and ``end_on_device`` it can."""

    def place(self, build: Build) -> Dataset:
        """Return the workload's dataset as one that keeps loaded samples on the device
        (``DeviceDataset``).

        Raises ``BuildFailed`` for a dataset that cannot be kept there.
        """


@runtime_checkable
class NeedsSettling(Protocol):
    """A provider whose device runs faster at first than in the long run."""

    @property
    def settle_s(self) -> float:
        """How long the device works at full load until its clocks and its power have
        settled; the probe takes the bare loop's rate after that.
        """


@runtime_checkable
class Simulated(EngineProvider, Protocol):
    """A provider whose times are made up and therefore known: it is not probed."""

    def service_s(self, size: int) -> float:
        """Return how long a batch takes."""


@runtime_checkable
class WritesOnnx(Protocol):
    """A provider that writes a model for other machines, as an ONNX file."""

    def write_onnx(self, model: ModelFile, precision: str, path: Path) -> None:
        """Write ``fp32``, ``fp16`` or ``int8``; raises ``BuildFailed``."""


# What only some streams can do.


@runtime_checkable
class GathersItself(Protocol):
    """A stream whose device fetches samples from host memory itself."""

    def gather_from(self, dataset: Dataset) -> Callable[[Sequence[int]], Any] | None:
        """Return a function from sample indices to a batch that ``infer`` takes, or
        None for a dataset that it does not suit.
        """


@runtime_checkable
class RunsItself(Protocol):
    """A stream whose device keeps what the runs of one sample share.

    The windows of a volume need not come back to the host one by one then.
    """

    def runner_for(
        self, workload: RunsModel
    ) -> Callable[[Sequence[int]], Responses] | None:
        """Return what answers a batch as ``workload.run_model`` would, or None for a
        workload that it does not suit.
        """


@runtime_checkable
class RecordsGraphs(Protocol):
    """A stream that records a CUDA graph when a batch is larger than any recorded one.

    The warm-up of a scenario whose batches vary runs each of its sizes, so that small
    batches need not run in a large graph.
    """

    def graph_sizes(self, batch: int) -> Sequence[int]:
        """Return the sizes to record for batches of up to ``batch`` samples."""


@runtime_checkable
class TimesBatches(Protocol):
    """A stream that times its batches by the device's own clock."""

    @property
    def timeline(self) -> Timeline: ...


@runtime_checkable
class TellsFacts(Protocol):
    """A stream that knows something of itself once it is open."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Name -> words for people, among the facts of a run."""


@runtime_checkable
class EndsOnDevice(Protocol):
    """A stream whose outputs may stay on the device."""

    @property
    def ends_on_device(self) -> bool:
        """True where ``infer`` returns ``DeviceOutputs``."""


class DeviceOutputs(Protocol):
    """Outputs of a batch that stay on the device until somebody wants them."""

    def fetch(self) -> Sequence[Array]:
        """Copy them to the host; before the stream's next batch."""


def content_hash(parts: Mapping[str, object]) -> str:
    """Return the sha256 of named parts, independent of their order."""
    text = json.dumps({k: str(v) for k, v in parts.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_streams(
    provider: EngineProvider,
    build: Build,
    streams: Streams,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[list[Engine]]:
    """Open one engine a stream and close every one of them, whatever happens.

    ``beat`` shows life after each: large models take their time to open.
    """
    with ExitStack() as stack:
        engines = []
        for _ in range(streams.count):
            engine = provider.open(build, streams.threads)
            stack.callback(engine.close)
            engines.append(engine)
            beat()
        yield engines


def timelines_of(engines: Sequence[object]) -> list[Timeline]:
    """Return the timelines of those engines that keep one."""
    return [one.timeline for one in engines if isinstance(one, TimesBatches)]


def facts_of_streams(engines: Sequence[object]) -> dict[str, str]:
    """Return what open streams know of themselves; the first one speaks for all."""
    first = engines[0] if engines else None
    return dict(first.facts) if isinstance(first, TellsFacts) else {}


def ends_on_device(engine: object) -> bool:
    """Return whether an engine's outputs stay where they are."""
    return isinstance(engine, EndsOnDevice) and engine.ends_on_device
