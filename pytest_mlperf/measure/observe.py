"""Everybody who observes a run: entered before it, left after it, facts merged."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from pytest_mlperf.api import registry
from pytest_mlperf.api.observer import CompletesFacts
from pytest_mlperf.api.observer import Observed
from pytest_mlperf.api.observer import ObservedRun
from pytest_mlperf.api.observer import Observer
from pytest_mlperf.api.observer import RunHeartbeat
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.machine.clocks import choose_clock
from pytest_mlperf.machine.power_limits import PowerLimits
from pytest_mlperf.machine.system import System
from pytest_mlperf.measure.observers.chip_power import ChipPower
from pytest_mlperf.measure.observers.clock_lock import ClockLock
from pytest_mlperf.measure.observers.cpu_times import CpuTimes
from pytest_mlperf.measure.observers.device_samples import DeviceSamples
from pytest_mlperf.measure.observers.host_settings import HostSettings
from pytest_mlperf.measure.observers.other_sessions import OtherSessions
from pytest_mlperf.measure.observers.power_limit import PowerLimit
from pytest_mlperf.measure.observers.rates import Rates

Beat = TypeVar("Beat", bound=RunHeartbeat)


def find_observers(
    options: Options, system: System, session: str
) -> dict[str, Observer]:
    """Return name -> observer of every run of a session: ours and the installed ones.

    ``session``: what the session's processes share, the reports folder.
    The last one encloses the others: clocks are locked before anything is read.
    """
    clock = choose_clock(
        options.lock_clocks,
        system.settings.get("lock_clocks"),
        rehearsal=options.rehearsal,
    )
    # A rehearsal measures nothing, and changes nothing.
    limits = PowerLimits.of({} if options.rehearsal else system.settings)
    return {
        "host settings": HostSettings(system.numa_note or system.numa_config),
        "devices": DeviceSamples(),
        "CPUs": CpuTimes(),
        "rates": Rates(),
        "chip power": ChipPower(),
        # A rehearsal measures nothing: no other session is disturbed by it.
        **({} if options.rehearsal else {"sessions": OtherSessions(session)}),
        **{name: _load_observer(name) for name in registry.names("observer")},
        "clocks": ClockLock(clock),
        **({} if limits == PowerLimits() else {"power limit": PowerLimit(limits)}),
    }


def _load_observer(name: str) -> Observer:
    try:
        observer: Observer = registry.load("observer", name)
    except ValueError as error:
        return BrokenObserver(error)
    return observer


@dataclass(frozen=True, slots=True)
class BrokenObserver:
    """Stands for an installed one that cannot be imported: the facts say why."""

    error: ValueError

    def around(self, task: ObservedRun) -> AbstractContextManager[Observed]:
        """Raise what importing it raised."""
        del task
        raise self.error


class GuardedObserver:
    """One observer around one run; no error of it reaches the run, but a refusal."""

    def __init__(self, name: str, observer: Observer, task: ObservedRun) -> None:
        self._name, self._observer, self._task = name, observer, task
        self._context: AbstractContextManager[Observed] | None = None
        self._observed: Observed | None = None
        self._failure = ""

    def __enter__(self) -> GuardedObserver:
        try:
            context = self._observer.around(self._task)
            self._observed = context.__enter__()
            self._context = context
        except RunRefused:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an observer raises
            self._fail(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Its answer is not asked for: no observer may swallow the run's own error.
        try:
            if self._context is not None:
                self._context.__exit__(kind, error, traceback)
        except Exception as own:  # noqa: BLE001 - as above
            if own is not error:
                self._fail(own)

    def see(self, heartbeat: RunHeartbeat) -> None:
        """Pass on a heartbeat, unless the observer has failed before."""
        try:
            if self._observed is not None and not self._failure:
                self._observed.see(heartbeat)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the run's facts with the observer's own, as far as they are new."""
        texts = dict(facts.texts)
        try:
            if self._observed is not None:
                facts = _complete(facts, self._observed, texts)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
        if self._failure:
            texts[f"observer {self._name}"] = self._failure
        return replace(facts, texts=texts)

    def _fail(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        self._failure = self._failure or f"failed: {text}"


def _complete(facts: RunFacts, observed: Observed, texts: dict[str, str]) -> RunFacts:
    for name, text in observed.facts.items():
        texts.setdefault(str(name), str(text))
    if isinstance(observed, CompletesFacts):
        facts = observed.complete_facts(facts)
    if not isinstance(facts, RunFacts):
        raise TypeError(f"complete_facts() returned {facts!r}, but should be RunFacts")
    return facts


@dataclass(frozen=True, slots=True)
class Observation:
    """All observers of one run."""

    observers: Sequence[GuardedObserver]

    def see(self, heartbeat: Beat) -> Beat:
        """Show a heartbeat to every observer and return it."""
        for observer in self.observers:
            observer.see(heartbeat)
        return heartbeat

    def complete_facts(self, facts: RunFacts) -> RunFacts:
        """Return the run's facts with what was observed; call it after the run."""
        for observer in self.observers:
            facts = observer.complete_facts(facts)
        return facts


@contextmanager
def observe(
    observers: Mapping[str, Observer], task: ObservedRun
) -> Iterator[Observation]:
    """Observe a run while the block runs it; raises ``RunRefused`` before it does."""
    with ExitStack() as stack:
        guarded = [
            stack.enter_context(GuardedObserver(name, observer, task))
            for name, observer in reversed(list(observers.items()))
        ]
        yield Observation(guarded[::-1])
