"""Short runs of a cell at one load after another, for the search of its peak."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.load_trials import estimate_late_share
from pytest_mlperf.core.logs.keys import FIRST_TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import LOGGED
from pytest_mlperf.core.logs.keys import TOKEN_LATENCY
from pytest_mlperf.core.logs.keys import format_share
from pytest_mlperf.core.logs.keys import list_bounds
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.plan import plan_length
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.machine.cpu_usage import QUIET
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.observe import observe
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.tuning.queue_model import RunLength

WHY = "a trial of the peak search"


@dataclass(frozen=True, slots=True)
class PeakTrials:
    """What trials of one task are made with."""

    rig: Rig
    task: Task
    """Tuned: streams, batch and the rest stay as they are."""

    def run(self, qps: float, seconds: float) -> LoadTrial:
        """Run LoadGen at a load for some seconds and return what was late."""
        rule = self.task.rule
        # It would take every sample of the dataset, however few a second.
        cell = replace(self.task.cell, rule=replace(rule, equal_issue=False))
        assert self.task.tuned is not None, "PeakFinder.search has tuned it"
        task = replace(
            self.task,
            tuned=self.task.tuned.at_load(qps),
            cell=cell,
            folder=make_folder(self.task.folder.with_name("peak-trial")),
            shortening=Shortening(int(seconds * 1000), WHY, 1),
            time_limit_s=None,
        )
        with observe(self.rig.session.observers, task) as observation:
            result = self.rig.run(task, observation)
        facts = observation.complete_facts(result.facts)
        shown = read_trial(Log.read(task.folder), task, qps, facts)
        with suppress(OSError):
            shutil.rmtree(task.folder)
        return shown


def read_trial(log: Log, task: Task, qps: float, facts: RunFacts) -> LoadTrial:
    """Return what a run at a load has shown."""
    rule = task.rule
    queries = log.integer("result_query_count")
    share = max(log.number(key) / bound for key, bound in list_bounds(rule).items())
    if rule.use_token_latencies:
        # LoadGen counts late tokens nowhere.
        bounds = (FIRST_TOKEN_LATENCY, rule.ttft_ns), (TOKEN_LATENCY, rule.tpot_ns)
        shares = (_estimate(log, queries, key, ns) for key, ns in bounds if ns)
        late = round(queries * max(shares))
    else:
        late = log.integer("result_overlatency_query_count")
    seconds = log.number("generated_query_duration") / 1e9
    # An attached server's own load, and what runs beside a GPU, is no neighbour.
    is_on_gpu = facts.uses_gpu and bool(task.visible)
    matters = not is_on_gpu and not (task.service and task.service.urls)
    others = facts.others_share if matters else 0.0
    beside = ", ".join(facts.sessions_beside)
    is_disturbed = others > QUIET or bool(beside)
    return LoadTrial(
        qps, seconds, share, queries, late, others, is_disturbed, beside=beside
    )


def _estimate(log: Log, queries: int, key: str, bound: int) -> float:
    points = {one: log.number(key.format(format_share(one))) for one in LOGGED}
    return estimate_late_share(queries, points, bound)


def plan_run_length(task: Task) -> RunLength:
    """Return how long a whole run of a task is."""
    duration_ms, queries, _ = plan_length(task.rule, task.shortening)
    return RunLength(queries, duration_ms / 1000)


def has_peak(rule: Rule) -> bool:
    """Return whether a load is looked for: under a bound, at random arrivals."""
    is_bounded = rule.scenario in BOUNDED
    return is_bounded and bool(rule.target_latency_ns or rule.ttft_ns)
