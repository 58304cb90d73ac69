"""What an observer is: it watches the machine, or changes it, while a cell runs.

A package adds one by an entry point in ``pytest_mlperf.observers`` that names an object
with ``around``; docs/extend/observer.md shows a whole one. It runs in
pytest's process, beside the process that measures: keep ``see`` short.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.facts import RunFacts


class ObservedRun(Protocol):
    """What an observer knows of the run that is about to begin."""

    @property
    def cell(self) -> Cell: ...

    @property
    def folder(self) -> Path:
        """The run's own, beside LoadGen's logs; an observer may write files there."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that the run may use."""

    @property
    def visible(self) -> tuple[str, ...]:
        """Its GPUs, as CUDA_VISIBLE_DEVICES names them; empty for CPUs."""


class RunHeartbeat(Protocol):
    """Where the run is; several a second."""

    @property
    def phase(self) -> str:
        """``open``, ``build``, ``probe``, ``warm-up``, ``run``, ``score`` …; LoadGen is
        at work in ``run``.
        """

    @property
    def step(self) -> str:
        """The phase, but ``run`` only from LoadGen's first query to its last answer:
        before, it loads samples and makes its schedule (``prepare``), and after it
        writes its logs (``log``).
        """

    @property
    def measured_s(self) -> float:
        """Seconds of the step ``run`` so far; 0 before it."""

    @property
    def issued(self) -> int: ...

    @property
    def completed(self) -> int: ...

    @property
    def elapsed_s(self) -> float:
        """Seconds since the phase began."""


class Observed(Protocol):
    """One run under observation."""

    def see(self, heartbeat: RunHeartbeat, /) -> None: ...

    @property
    def facts(self) -> Mapping[str, str]:
        """Name -> text for the verdict; read when the run has ended and the observer's
        context is closed. A name that the suite uses itself is left out.
        """


@runtime_checkable
class CompletesFacts(Protocol):
    """An ``Observed`` that knows something which the program decides on."""

    def complete_facts(self, facts: RunFacts, /) -> RunFacts:
        """Return the run's facts with what was observed."""


class Observer(Protocol):
    """Observes runs; one object for all runs of a session."""

    def around(self, task: ObservedRun, /) -> AbstractContextManager[Observed]:
        """Return a context that is entered before the run and left after it.

        ``core.errors.RunRefused`` on entering fails the item: nothing has run then. Any
        other exception, at any time, is told in the verdict's facts and fails nothing.
        """
