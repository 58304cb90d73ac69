"""Probes of engines whose speed is known, by a clock that no other program holds up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.samples import Array
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.engine_probe import EngineProbe
from pytest_mlperf.tuning.server_load import LoadSearch
from pytest_mlperf.tuning.server_load import Trial
from tests.support import calls
from tests.support import doubles

BOUND_NS = 15_000_000
NOTHING = Tuning()
WIDE = Streams(1, 2)
NARROW = Streams(2, 1)


@dataclass
class Clock:
    """Stands in for ``time``: engines sleep by it, and no other program holds it up."""

    now: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds

    def monotonic(self) -> float:
        self.sleep(5e-5)
        return self.now

    perf_counter = monotonic


@dataclass(frozen=True, slots=True)
class SideBySide(doubles.Double):
    """5 ms for a batch of any size: in each of two streams, or in one of two threads.

    Two streams sleep one after the other on the clock, so that each counts half.
    """

    def open(self, build: Build, threads: int) -> doubles.Stream:  # noqa: ARG002
        return doubles.Stream(partial(calls.slow_batch, seconds=0.005 * threads / 2))


FAST = SideBySide(calls.echo, spread=(NARROW, WIDE), batches=(1,))


def probe_of(
    provider: EngineProvider,
    *,
    cpus: int = 2,
    beat: Callable[[], None] = lambda: None,
    lengths: Array | None = None,
) -> EngineProbe:
    workload = doubles.Echo(doubles.numbers(lengths))
    build = provider.build(BuildRequest(workload, "fp32", Path("unused")))
    return EngineProbe(provider, build, workload, cpus, beat)


def tune_probe(
    probe: EngineProbe,
    scenario: Scenario,
    given: Tuning,
    bound_ns: int | None,
    trial: Trial | None,
) -> Tuned:
    """Return a cell's tuning; ``trial`` None (accuracy) skips Server's."""
    tuned = probe.measure(scenario, given, bound_ns)
    search = LoadSearch(probe.provider, probe.cpus, probe.beat)
    return search.find_load(tuned, scenario, given, bound_ns, trial)


def tune(
    provider: EngineProvider,
    scenario: Scenario,
    given: Tuning = NOTHING,
    bound_ns: int | None = None,
) -> Tuned:
    return tune_probe(probe_of(provider), scenario, given, bound_ns, None)


@dataclass
class Trials:
    """Stands for short Server runs: a tail by load and layout, and what was tried."""

    tail_ns: Callable[[float, Streams], float]
    tried: list[tuple[float, Streams]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def __call__(self, tuned: Tuned, seconds: float) -> float:
        assert tuned.target_qps is not None
        assert tuned.loop_rate is not None
        share = round(tuned.target_qps / tuned.loop_rate, 3)
        self.tried.append((share, tuned.streams))
        self.seconds.append(seconds)
        return self.tail_ns(share, tuned.streams)
