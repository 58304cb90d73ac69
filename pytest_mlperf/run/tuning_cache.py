"""How cells run, found once for every build and choice of the user."""

from __future__ import annotations

from collections.abc import Callable
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

NEAR = 0.9
"""The point of a trial's tail from which its slope is taken."""
UNLIKELY = 1.2
"""How much less slow than ``SLOWDOWN`` says a machine may become for what early
stopping asks beyond the percentile: both at their worst would halve a load for little.
"""
IN_TIME = 1.02
"""Above the load whose run takes as long as it may."""


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

        On CPUs, what other programs disturb is measured again. ``samples``: of the
        dataset.
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
            search = LoadSearch(
                provider, cpus, beat, task.devices, slowdown, find_least_qps(task),
                meter,
            )  # fmt: skip
            found = search.find_load(
                meter.measure(measure, lambda tuned: 1 / (tuned.answer_rate or 1)),
                scenario, task.tuning, bound,
                latency_trial(task, run) if performs else None,
            )  # fmt: skip
            queries = count_queries(task, found) if performs else None
            note = found.note + meter.note
            if queries:
                note += f"; {queries:,} queries, so that stalls may make some late"
            self._found[key] = replace(found, note=note, queries=queries)
        return self._found[key]


def find_least_qps(task: Task) -> float:
    """Return the load at which the fewest queries take as long as a run may."""
    _, least, _ = plan_length(task.rule, task.shortening)
    return IN_TIME * least / task.time_limit_s if task.time_limit_s else 0.0


def count_queries(task: Task, tuned: Tuned) -> int | None:
    """Return how many queries the load that the probe found needs to allow stalls.

    None where the run asks for as many already, or no load was looked for or found.
    """
    rule, share = task.rule, tuned.probed_share
    bound, percentile = rule.target_latency_ns, rule.percentile
    if not (share and bound and percentile and tuned.target_qps and tuned.loop_rate):
        return None
    duration_ms, least, _ = plan_length(rule, task.shortening)
    count = count_queries_for_stalls(
        tuned.target_qps,
        tuned.target_qps / (tuned.loop_rate * task.devices),
        bound / 1e9 * max(0.0, 1 - share),
        percentile,
        duration_ms / 1000,
        task.time_limit_s,
    )
    return count if count and count > least and not tuned.hopeless else None


def latency_trial(task: Task, run: ShortRun[Tuned]) -> Callable[[Tuned, float], float]:
    """Return a short real Server run whose figure is the bounded latency, ns.

    It is that at the rule's percentile, or more where the task's own run has few
    queries and so may have hardly any late one.
    """
    rule = task.rule
    percentile = rule.percentile or 0.99
    near = NEAR if percentile > NEAR else 0.5
    duration_ms, least, _ = plan_length(rule, task.shortening)
    key = FIRST_TOKEN_LATENCY if rule.use_token_latencies else LATENCY

    def read(log: Log, share: float) -> tuple[float, float]:
        return 1 - share, log.number(key.format(format_share(share)))

    def trial(tuned: Tuned, seconds: float) -> float:
        qps = (tuned.target_qps or 0.0) / SLOWDOWN
        late = find_allowed_share(max(least, int(qps * duration_ms / 1000)), percentile)

        def find_tail(log: Log) -> float:
            far = read(log, percentile)
            return max(far[1], extend_tail(read(log, near), far, late) / UNLIKELY)

        return run(tuned, seconds, find_tail)

    return trial
