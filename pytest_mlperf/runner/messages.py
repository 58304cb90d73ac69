"""What the pytest process asks of a runner, and what comes back. All of it pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import Protocol

from pytest_mlperf.api.service import TOKEN_ENV
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.residency.rules import Probe
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Seeds


@dataclass(frozen=True, slots=True)
class ServerWish:
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
class ServiceWish:
    """Where the service of a cell is and how it is to be asked.

    No secret is in it: the token stays in the environment variable that it names.
    """

    urls: tuple[str, ...] = ()
    """Of servers that run already; empty: one is started."""
    server: ServerWish | None = None
    """What is started; None: what the workload brings along."""
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
    token_env: str = TOKEN_ENV
    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """One of several devices of an item: what its process is bound to."""

    name: str
    cpus: tuple[int, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One LoadGen run: a cell in a mode, into a folder."""

    cell: Cell
    mode: Mode
    rule: Rule
    seeds: Seeds
    engine: str
    """Installed name of engine or service, or ``module:object`` of one in
    development."""
    folder: str
    workload: str
    """``official``, ``embedded``, ``generated`` or ``synthetic``."""
    cache: str
    cpus: tuple[int, ...]
    seats: tuple[Seat, ...] = ()
    """The devices of an item that takes several; empty: the runner's own."""
    scratch: str | None = None
    tuning: Tuning = field(default_factory=Tuning)
    engine_options: Mapping[str, str] = field(default_factory=dict)
    service: ServiceWish | None = None
    """Where a service answers; None: an engine does."""
    residency: Residency = field(default_factory=Residency)
    shortening: Shortening | None = None
    audit: str = ""
    """Compliance: the test's name, ``TEST01``."""
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """Compliance: how the reference run was tuned, instead of a probe."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Compliance: what the test needs -> the folder of that run."""
    required_build: str = ""
    """Compliance: content hash of the engine build that the reference ran on."""


class Counted(Protocol):
    """What the heartbeat reads."""

    @property
    def issued(self) -> int: ...

    @property
    def completed(self) -> int: ...

    @property
    def pulse(self) -> int:
        """Grows with signs of life between completions."""


@dataclass(frozen=True, slots=True)
class Part:
    """How one of several devices is doing."""

    name: str
    pid: int
    stacks: str
    """The file that it writes its stacks to when it is asked."""
    owed: int = 0
    """Samples that it was handed and has not answered."""
    progress: int = 0
    """Samples answered, and steps done."""
    asked: bool = False
    """It was told to do something else than inference, and has not said it did."""


class DeviceLost(Exception):
    """One of several devices failed; the text names it, ``told`` is what it left."""

    def __init__(self, cause: str, told: str = "") -> None:
        super().__init__(cause)
        self.told = told


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: where a runner is."""

    phase: str
    """``open``, ``build`` or ``server``, ``probe``, ``warm-up``, ``run``, ``score``."""
    issued: int = 0
    completed: int = 0
    total: int | None = None
    """Samples the run will issue, where that is known beforehand."""
    elapsed_s: float = 0.0
    expected_s: float | None = None
    marks: int = 0
    """Steps done in this phase; a watchdog sees life in it where nothing is issued."""
    parts: tuple[Part, ...] = ()
    """Of a run over several devices."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished run; LoadGen's logs are in the job's folder."""

    settings: Settings
    build: str
    reference: Mapping[str, float]
    dataset_total: int
    workload_kind: str
    facts: Mapping[str, str]
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
class Unmet:
    """Something the cell needs is not on this machine: the item is skipped."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The run ended in an exception."""

    phase: str
    cause: str
    """Type and message of the exception."""
    traceback: str = ""
    """Empty where the cause says it all (a folder that cannot be written)."""
    fatal: bool = True
    """True when the runner that sends this has exited: LoadGen cannot be aborted."""


Message = Beat | Done | Unmet | Failure
