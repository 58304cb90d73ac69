"""Runs a task and judges what LoadGen wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core import published
from pytest_mlperf.core import rounds
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.types import KIND_LABELS
from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import UNOFFICIAL
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure import residency
from pytest_mlperf.measure.observe import observe
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.measure.stop_early import is_stopped_early
from pytest_mlperf.measure.stop_early import make_partial_verdict
from pytest_mlperf.measure.stop_early import stop_lost_run
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunStopped
from pytest_mlperf.runner.runner import ignore_beat


def run_and_judge(rig: Rig, task: Task) -> Verdict:
    """Run a task and return its verdict."""
    session = rig.session
    on_beat = ignore_beat
    if is_stopped_early(session.options, task):
        on_beat = stop_lost_run
    stopped: RunStopped | None = None
    with observe(session.observers, task) as observation:
        try:
            result = rig.run(task, observation, on_beat)
        except RunStopped as error:
            stopped = error
    if stopped:
        facts = observation.complete_facts(RunFacts(device=task.device_name))
        labels = list_labels(session, task, task.workload)
        return make_partial_verdict(task, stopped, facts, labels)
    facts = complete_facts(session, task, result)
    facts = observation.complete_facts(facts)
    context = make_context(session, task, replace(result, facts=facts))
    residency.write_proof(session.system, task, context)
    cell = task.cell
    verdict = judge(task.folder, cell, task.mode, context)
    beside = published.list_comparisons(verdict, cell.scenario)
    return replace(verdict, facts={**verdict.facts, **beside})


def write_verdict(verdict: Verdict) -> None:
    """Write a verdict into its run's folder, for whatever builds on that run."""
    path = Path(verdict.folder) / VERDICT_FILE
    path.write_text(f"{verdict.to_json()}\n", encoding="utf-8")


def complete_facts(session: MeasureSession, task: Task, result: RunResult) -> RunFacts:
    """Return a run's facts with what the pytest process knows of its devices."""
    facts = result.facts
    # A service that runs already may be on any machine, and ours is on the CPU.
    is_here = task.service is None or task.service.server is not None
    uses_gpu = facts.uses_gpu and is_here
    # An engine may leave a worker's GPU alone (onnxruntime's CPU provider) and says so.
    device = facts.device if task.visible else ""
    return replace(
        facts,
        device=device or task.device_name,
        accelerators=len(task.visible) if uses_gpu else 0,
        is_attached=bool(task.service and task.service.urls),
        texts={**facts.texts, "system": session.system.name},
    )


def make_context(session: MeasureSession, task: Task, result: RunResult) -> Context:
    """Return what the rules need to know beside the logs."""
    # A stand-in has its own reference.
    is_stand_in = result.workload_kind in KIND_LABELS
    labels = list_labels(
        session, task, result.workload_kind, answers_only=result.answers_only
    )
    return Context(
        settings=result.settings,
        reference=dict(result.reference) if is_stand_in else None,
        hopeless=result.hopeless,
        labels=labels,
        expected_s=result.settings.expected_s,
        build=result.build,
        dataset_total=result.dataset_total,
        run=result.facts,
        audit=task.audit,
        claim=residency.make_claim(session.system, task, result),
        devices=task.devices,
    )


def list_labels(
    session: MeasureSession, task: Task, kind: str, *, answers_only: bool = False
) -> tuple[str, ...]:
    """Return what keeps a run of this kind of workload from being a result."""
    labels = [KIND_LABELS[kind]] if kind in KIND_LABELS else []
    labels += [x for x in session.options.labels if x not in KIND_LABELS.values()]
    labels += [NULL_ANSWERS] * answers_only
    labels += [UNOFFICIAL] * (not rounds.is_official(task.rule))
    return tuple(labels)
