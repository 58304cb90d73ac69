"""What the pytest process asks of a runner, and what comes back. All of it pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.settings import Seeds
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.settings import Shortening
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.types import Mode


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a system file or the command line fixes; None is left to the probe."""

    batch: int | None = None
    streams: int | None = None
    threads: int | None = None
    max_delay_ms: float | None = None
    preferred: tuple[int, ...] = ()
    target_qps: float | None = None
    expected_latency_ms: float | None = None
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One LoadGen run: a cell in a mode, into a folder."""

    cell: Cell
    mode: Mode
    rule: Rule
    seeds: Seeds
    engine: str
    """Installed name, or ``module:object`` of an engine in development."""
    folder: str
    workload: str
    """``official``, ``embedded``, ``generated`` or ``synthetic``."""
    cache: str
    cpus: tuple[int, ...]
    scratch: str | None = None
    tuning: Tuning = Tuning()
    engine_options: Mapping[str, str] = field(default_factory=dict)
    shortening: Shortening | None = None
    audit: str = ""
    """Compliance: the test's name, ``TEST01``."""
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """Compliance: how the reference run was tuned, instead of a probe."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Compliance: what the test needs -> the folder of that run."""
    required_build: str = ""
    """Compliance: content hash of the engine build that the reference ran on."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat: where a runner is."""

    phase: str
    """``open``, ``build``, ``probe``, ``warm-up``, ``run``, ``score``."""
    issued: int = 0
    completed: int = 0
    total: int | None = None
    """Samples the run will issue, where that is known beforehand."""
    elapsed_s: float = 0.0
    expected_s: float | None = None
    marks: int = 0
    """Steps done in this phase; a watchdog sees life in it where nothing is issued."""


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
