"""What an engine must offer: find out if it can run, build once, open per stream.

An engine is one file and one entry point (group ``pytest_mlperf.engines``) that names
an object with the methods of ``EngineProvider``. Nothing is subclassed.
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
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core.residency.rules import Residency


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build: a workload's model in a precision, for this machine."""

    workload: Workload
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


@dataclass(frozen=True, slots=True)
class Streams:
    """How an engine is spread over a device: parallel streams x threads in each."""

    count: int
    threads: int

    def __str__(self) -> str:
        return f"{self.count} x {self.threads}"


class Resting(Protocol):
    """Outputs of a batch that stay on the device until somebody wants them."""

    def fetch(self) -> Sequence[Array]:
        """Copy them to the host; before the stream's next batch."""


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

    # Optional: ``gather_from(dataset)``, a function from sample indices to a batch that
    # ``infer`` takes instead of the dataset's own (a device that fetches samples from
    # host memory itself), or None for a dataset that it does not suit.

    # Optional: ``timeline``, a ``Timeline`` of the device's own clock; its summary is
    # among the facts of a run.

    # Optional: ``facts``, what is known once a stream is open, for the facts of a run.

    # Optional: ``ends_on_device``, True where ``infer`` returns ``Resting`` outputs.


class EngineProvider(Protocol):
    """What an entry point names."""

    @property
    def precisions(self) -> tuple[str, ...]: ...

    @property
    def batches(self) -> tuple[int, ...]:
        """Batch sizes worth trying, ascending."""

    # Optional: ``precision_for: Mapping[str, str]``, a benchmark's default precision
    # -> the one this engine runs instead where nobody chose; held to the same target.

    # Optional: ``on_device``, which of ``start_from_device`` and ``end_on_device`` it
    # can; with the first, ``place(build)`` returns the workload's dataset as one that
    # keeps loaded samples on the device (``resident.Library``). ``BuildFailed`` says
    # why a dataset cannot be kept there.

    # Optional: ``settle_s``, how long a device works at full load until its clocks and
    # its power have settled; the probe then takes the bare loop's rate after that.

    @property
    def answers(self) -> bool:
        """True when ``infer`` returns finished answers as one array, without looking
        at the inputs (``null``): gathering and post-processing are left out.
        """

    def unavailable(self) -> str | None:
        """Say which package or device is missing and how to get it, or None."""

    def build(self, request: BuildRequest) -> Build:
        """Build, or find the build in the cache. Slow; untimed.

        Raises ``BuildFailed``, or ``Missing`` for what can be installed.
        """

    def open(self, build: Build, threads: int) -> Engine:
        """Open one stream of a build with that many threads."""

    def layouts(self, cpus: int) -> tuple[Streams, ...]:
        """Return the layouts worth trying on a device with that many CPUs, for
        throughput; the last one is the layout for latency (one stream).
        """


@runtime_checkable
class Simulated(EngineProvider, Protocol):
    """A provider whose times are made up and therefore known: it is not probed."""

    def service_s(self, size: int) -> float:
        """Return how long a batch takes."""


def content_hash(parts: Mapping[str, object]) -> str:
    """Return the sha256 of named parts, independent of their order."""
    text = json.dumps({k: str(v) for k, v in parts.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def opened(
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
