"""How cells run, found once for every build and choice of the user."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import Simulated
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import plan_length
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.machine.cpu_usage import CpuTime
from pytest_mlperf.run.protocol import ShortRun
from pytest_mlperf.runner.messages import Built
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning import simulated
from pytest_mlperf.tuning.quiet import QuietMeter
from pytest_mlperf.tuning.run_tail import extend_tail
from pytest_mlperf.tuning.run_tail import find_allowed_share
from pytest_mlperf.tuning.server_load import GPU_SLOWDOWN
from pytest_mlperf.tuning.server_load import SLOWDOWN
from pytest_mlperf.tuning.server_load import LoadSearch
from pytest_mlperf.tuning.stall_room import count_queries_for_stalls
from pytest_mlperf.tuning.stall_room import find_longest_s

NEAR = 0.9
"""The point of a trial's tail from which its slope is taken."""
UNLIKELY = 1.2
"""How much less slow than ``SLOWDOWN`` says a machine may become for what early
stopping asks beyond the percentile: both at their worst would halve a load for little.
"""
IN_TIME = 1.02
"""Above the load whose run takes as long as it may."""
LONGER = 1.05
"""Steps in which a run gets more queries."""
Point = tuple[float, float]
"""Of a tail: a share of late queries, and the latency there, ns."""
Tail = tuple[Point, Point]
"""Two points of a trial's tail, the nearer one first."""


class TuningCache:
    """Tunings of a process, found once for every cell, build and choice of the user."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], Tuned] = {}

    def tune(
        self,
        task: Task,
        provider: EngineProvider,
        build: Build | Built,
        samples: int,
        measure: Callable[[], Tuned],
        run: ShortRun[Tuned],
        beat: Callable[[], None],
    ) -> Tuned:
        """Return the task's tuning: layout and batch by the bare loop, then a load.

        On CPUs, what other programs disturb is measured again where a figure depends
        on it. ``samples``: of the dataset.
        """
        if isinstance(provider, Simulated):
            return simulated.tune(provider, task.rule.scenario, task.tuning, samples)
        scenario, bound = task.rule.scenario, task.rule.target_latency_ns
        cell = (
            task.provider, build.digest, task.cpus, task.devices, task.residency,
            scenario, task.tuning, bound,
        )  # fmt: skip
        # Accuracy runs as its performance run did, where there was one.
        measured = (*cell, Mode.PERFORMANCE)
        key = measured if measured in self._found else (*cell, task.mode)
        if key not in self._found:
            performs = task.mode is Mode.PERFORMANCE
            cpus = len(task.slots[0].cpus if task.slots else task.cpus)
            meter = QuietMeter()
            slowdown = GPU_SLOWDOWN
            if not build.uses_gpu:
                meter, slowdown = QuietMeter(partial(CpuTime.read, task.cpus)), SLOWDOWN
            trial = TailTrial(task, run, (bound or 0) / slowdown)
            search = LoadSearch(
                provider, cpus, beat, task.devices, slowdown, find_least_qps(task),
                meter,
            )  # fmt: skip
            found = search.find_load(
                meter.measure(
                    measure, lambda tuned: 1 / (tuned.answer_rate or 1),
                    lambda _: not performs or is_settled(task.tuning),
                ),
                scenario, task.tuning, bound,
                trial if performs else None,
            )  # fmt: skip
            queries = count_queries(task, found, trial) if performs else None
            note = found.note + meter.note
            if queries:
                note += f"; {queries:,} queries, so that some may be late"
            self._found[key] = replace(found, note=note, queries=queries)
        return self._found[key]


def is_settled(given: Tuning) -> bool:
    """Return whether layout, batch and load are given: nothing is chosen by a rate."""
    layout = given.streams or given.threads
    return bool(layout and given.batch and given.target_qps)


def find_least_qps(task: Task) -> float:
    """Return the load at which the fewest queries take as long as a run may."""
    _, least, _ = plan_length(task.rule, task.shortening)
    return IN_TIME * least / task.time_limit_s if task.time_limit_s else 0.0


def count_queries(task: Task, tuned: Tuned, trial: TailTrial) -> int | None:
    """Return how many queries the load that the probe found needs: to allow stalls, and
    the late ones that its last trial lets expect.

    None where the run asks for as many already, or no load was looked for or found.
    """
    rule, share = task.rule, tuned.probed_share
    bound, percentile = rule.target_latency_ns, rule.percentile
    if not (share and bound and percentile and tuned.target_qps and tuned.loop_rate):
        return None
    duration_ms, _, _ = plan_length(rule, task.shortening)
    count = count_queries_for_stalls(
        tuned.target_qps,
        tuned.target_qps / (tuned.loop_rate * task.devices),
        bound / 1e9 * max(0.0, 1 - share),
        percentile,
        duration_ms / 1000,
        task.time_limit_s,
    )
    least, _ = trial.count_range(tuned.target_qps)
    count = max(count or 0, trial.count_queries(tuned.target_qps, share * bound))
    return count if count > least and not tuned.hopeless else None


@dataclass(slots=True)
class TailTrial:
    """A short real Server run whose figure is the bounded latency, ns.

    It is that at the rule's percentile, or more where the task's own run has few
    queries and so may have hardly any late one. The run may become longer for that.
    """

    task: Task
    run: ShortRun[Tuned]
    bound_ns: float
    """That leaves room for a machine that becomes slower."""
    tails: dict[float, Tail] = field(default_factory=dict)
    """What a trial has returned -> the tail that it has seen."""

    def __call__(self, tuned: Tuned, seconds: float) -> float:
        """Run a load for some seconds."""
        rule = self.task.rule
        key = FIRST_TOKEN_LATENCY if rule.use_token_latencies else LATENCY
        near = NEAR if self.percentile > NEAR else 0.5

        def read(log: Log, share: float) -> Point:
            return 1 - share, log.number(key.format(format_share(share)))

        def find_points(log: Log) -> Tail:
            return read(log, near), read(log, self.percentile)

        tail = self.run(tuned, seconds, find_points)
        _, most = self.count_range((tuned.target_qps or 0.0) / SLOWDOWN)
        found_ns = self.find_latency_ns(tail, most)
        self.tails[found_ns] = tail
        return found_ns

    @property
    def percentile(self) -> float:
        return self.task.rule.percentile or 0.99

    def count_queries(self, qps: float, found_ns: float) -> int:
        """Return the fewest queries of a run at a load that the trial which returned
        ``found_ns`` promises to keep the bound, or as many as there is time for.
        """
        tail = self.tails[min(self.tails, key=lambda ns: abs(ns - found_ns))]
        count, most = self.count_range(qps)
        while count < most and self.find_latency_ns(tail, count) > self.bound_ns:
            count = min(most, math.ceil(LONGER * count))
        return count

    def count_range(self, qps: float) -> tuple[int, int]:
        """Return the fewest queries and the most that a run at a load may have."""
        shortening = self.task.shortening
        duration_ms, least, _ = plan_length(self.task.rule, shortening)
        shortest_s = duration_ms / 1000
        longest_s = find_longest_s(shortest_s, self.task.time_limit_s)
        if shortening and shortening.query_count:
            longest_s = shortest_s
        return max(least, int(qps * shortest_s)), max(least, int(qps * longest_s))

    def find_latency_ns(self, tail: Tail, queries: int) -> float:
        """Return the latency that so many queries have to keep, of which hardly any may
        be late.
        """
        near, far = tail
        late = find_allowed_share(queries, self.percentile)
        return max(far[1], extend_tail(near, far, late) / UNLIKELY)
