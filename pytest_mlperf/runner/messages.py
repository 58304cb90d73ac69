"""What the pytest process asks of a runner, and what comes back. All of it pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Generic
from typing import TypeVar

from pytest_mlperf.api.object_ref import ObjectRef
from pytest_mlperf.config.option_types import TOKEN_ENV
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.late_queries import LatencySoFar
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Seeds
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.sut.tuned_load import TunedLoad

if TYPE_CHECKING:
    # With it all compliance tests would be imported, in each child of a session.
    from pytest_mlperf.core.compliance import Audit


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """How a server is to be started: a system file's ``[server]`` table."""

    command: tuple[str, ...]
    """``{port}``, ``{model}`` and ``{devices}`` are filled in."""
    devices: str = ""
    """As CUDA_VISIBLE_DEVICES has them."""
    port: int | None = None
    health: str = "/health"
    ready_s: float = 1800.0
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """Where the service of a cell is and how it is asked; no secret is in it."""

    urls: tuple[str, ...] = ()
    """Of servers that run already; empty: one is started."""
    server: ServerSpec | None = None
    """What is started; None: what the provider starts for an embedded workload."""
    model: str = ""
    """Empty takes the one that is served."""
    chat: bool = False
    balance: str = "least"
    concurrency: int | None = None
    """Requests outstanding at most, over all endpoints; None is found by the probe."""
    warm_up: int | None = None
    """Requests before a run, untimed."""
    timeout_s: float = 600.0
    stall_s: float = 90.0
    health: str = ""
    """Of servers that run already; empty: ``/health`` where there is one."""
    token_env: str = TOKEN_ENV
    ca_file: str | None = None
    over_network: bool = False
    """The run is of the network division: LoadGen's SUT is named by the servers."""


@dataclass(frozen=True, slots=True)
class DeviceSlot:
    """One of several devices of an item: what its process is bound to."""

    name: str
    cpus: tuple[int, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A cell in a mode, resolved: nothing below the planner looks anything up."""

    cell: Cell
    mode: Mode
    seeds: Seeds
    provider: ObjectRef
    """The engine or, where there is a ``service``, the service that answers."""
    benchmark: ObjectRef
    precision: str
    """As chosen by the user, the benchmark or the engine; empty where a server's own
    is not known."""
    workload: str
    """``official``, ``embedded``, ``generated`` or ``synthetic``."""
    cache: Path
    cpus: tuple[int, ...]
    folder: Path
    """For LoadGen's logs, one of the run's own."""
    device_name: str = ""
    """What it runs on, for people: ``2 x NVIDIA H200``, ``4 of 16 CPUs``."""
    visible: tuple[str, ...] = ()
    """The GPUs, as CUDA_VISIBLE_DEVICES names them; empty for CPUs."""
    slots: tuple[DeviceSlot, ...] = ()
    """The devices of an item that takes several; empty: the runner's own."""
    scratch: Path | None = None
    tuning: Tuning = field(default_factory=Tuning)
    engine_options: Mapping[str, str] = field(default_factory=dict)
    service: ServiceSpec | None = None
    """Where a service answers; None: an engine does."""
    residency: Residency = field(default_factory=Residency)
    shortening: Shortening | None = None
    time_limit_s: float | None = None
    """A run that is expected to take longer is refused before it begins."""
    audit: Audit | None = None
    """Compliance: the test's settings for the cell's rule."""
    tuned: TunedLoad | None = None
    """How it runs, where that is known: as the run that it is compared with, or at a
    load that is tried. None is left to the probe."""
    references: Mapping[str, Path] = field(default_factory=dict)
    """Compliance: what the test needs -> the folder of that run."""
    record: bool = True
    """Whether a performance run leaves a record a query."""
    required_build: str = ""
    """Compliance: content hash of the engine build that the reference ran on."""

    @property
    def rule(self) -> Rule:
        return self.cell.rule

    @property
    def devices(self) -> int:
        """How many devices answer together."""
        return max(1, len(self.slots))


# What comes back.


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """How one of several devices is doing."""

    name: str
    pid: int
    stacks: str
    """The file that it writes its stacks to when it is asked."""
    owed: int = 0
    """Samples that it was handed and has not answered."""
    progress: int = 0
    """Samples answered, and steps done."""
    is_busy: bool = False
    """It was told to do something else than inference, and has not said it did."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where a runner is."""

    phase: str
    """``open``, ``build`` or ``server``, ``probe``, ``warm-up``, ``run``, ``score``."""
    issued: int = 0
    completed: int = 0
    total: int | None = None
    """Samples the run will issue, where that is known beforehand."""
    work_share: float | None = None
    """Of the run's work, what is completed; None where the total is not known."""
    elapsed_s: float = 0.0
    expected_s: float | None = None
    marks: int = 0
    """Steps done in this phase; a watchdog sees life in it where nothing is issued."""
    devices: tuple[DeviceStatus, ...] = ()
    """Of a run over several devices."""
    work: int = 0
    """What LoadGen itself did: life where nothing is outstanding."""
    longest_rest_s: float = 0.0
    """The most that LoadGen waits between two queries of a light load."""
    cpu_s: float = 0.0
    """CPU seconds of the runner, and of its children that ended; without heartbeats."""
    latencies: tuple[LatencySoFar, ...] = ()
    """Percentiles of the queries that were answered, where they are recorded."""
    is_measuring: bool = False
    """Between LoadGen's first query and the last answer."""
    measured_s: float = 0.0
    """From LoadGen's first query to the last answer, or until now; 0 before it. To an
    eighth of a second.
    """

    @property
    def step(self) -> str:
        """The phase; in ``run`` it is ``prepare`` before LoadGen's first query, and
        ``log`` after the last answer.
        """
        if self.phase != "run" or self.is_measuring:
            return self.phase
        return "log" if self.measured_s else "prepare"


@dataclass(frozen=True, slots=True)
class Opened:
    """A workload is open in the runner."""

    kind: str
    title: str
    digest: str
    total: int
    """Samples for accuracy."""
    performance_count: int
    """Samples in memory during a performance run."""
    longest: int = 0
    """Of the samples' lengths, such as tokens; 0 where they have none."""


@dataclass(frozen=True, slots=True)
class Built:
    """An engine is built, or a server answers."""

    digest: str
    """Content hash of what answers."""
    precision: str
    report: str
    """One line for people: ``built in 3.1 s`` or ``cached``."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> words for people."""
    uses_gpu: bool = True
    device: str = ""
    """As the engine calls it; of several devices, all of them."""
    weight_transformations: str = ""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run; LoadGen's logs are in the task's folder."""

    settings: Settings
    build: str
    reference: Mapping[str, float]
    dataset_total: int
    workload_kind: str
    facts: RunFacts
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Accuracy mode: metric -> value."""
    hopeless: str = ""
    """Why no load keeps the latency bound, where the probe found none."""
    answers_only: bool = False
    """The engine infers nothing (``null``): the figures are the suite's own."""
    type_bytes: float = 1
    """Of one element of the samples that lie on the device, where they do."""
    copies: Probe | None = None
    """The device's link to the host, measured where samples or results stay there."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something the cell needs is not on this machine: the item is skipped."""

    reason: str


@dataclass(frozen=True, slots=True)
class RunError:
    """The run ended in an exception."""

    phase: str
    cause: str
    """Type and message of the exception."""
    traceback: str = ""
    """Empty where the cause says it all (a folder that cannot be written)."""
    is_fatal: bool = True
    """True when the runner that sends this has exited: LoadGen cannot be aborted."""


RunnerReply = Opened | Built | TunedLoad | BatchTimes | RunResult
Message = Heartbeat | RunnerReply | Skipped | RunError


# What a runner is told to do with a task, in the order in which it happens.

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RunnerCommand(Generic[R]):
    """Something to do with a task, and everything before it; answered by ``R``."""

    task: Task


@dataclass(frozen=True, slots=True)
class OpenTask(RunnerCommand[Opened]):
    """Open the task's workload."""


@dataclass(frozen=True, slots=True)
class BuildTask(RunnerCommand[Built]):
    """Build the task's engine or start its server."""


@dataclass(frozen=True, slots=True)
class TuneTask(RunnerCommand[TunedLoad]):
    """Find out how the task is to run."""


@dataclass(frozen=True, slots=True)
class BareBatches(RunnerCommand[BatchTimes]):
    """Run batches without LoadGen on what is built."""

    load: BatchLoad


@dataclass(frozen=True, slots=True)
class RunTask(RunnerCommand[RunResult]):
    """Do all of it under LoadGen."""


class DeviceLost(Exception):
    """One of several devices failed; the text names it."""

    def __init__(self, cause: str, last_words: str = "") -> None:
        super().__init__(cause)
        self.last_words = last_words
        """Its stacks and the end of its log."""
