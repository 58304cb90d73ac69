"""From a cell and the user's options to a job, and from its logs to a verdict."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import fields
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol

from pytest_mlperf.api import registry
from pytest_mlperf.core import published
from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import Audit
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import KIND_LABELS
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.machine import clocks
from pytest_mlperf.measure import residency
from pytest_mlperf.measure.observe import observed
from pytest_mlperf.measure.placement import Slice
from pytest_mlperf.measure.service_spec import service_for
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.runner.messages import Beat
from pytest_mlperf.runner.messages import Done
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.plugin.session import State

VERDICT = "verdict.json"
"""In every run's folder: what the rules said of it."""


class Measure(Protocol):
    """What the ``measure`` fixture returns."""

    def __call__(self, cell: Cell, audit: str = "") -> Verdict:
        """Run a cell, under a compliance test's settings where one is named."""


def run_and_judge(
    state: State, runner: Runner, device: Slice, cell: Cell, mode: Mode
) -> Verdict:
    """Run LoadGen in the runner and judge what it wrote.

    Raises ``Missing`` and ``RunFailed``, as ``Runner.run`` does.
    """
    folder = new_folder(logs_folder(state.reports, cell, mode.value))
    job = job_for(state, device, cell, mode, folder)
    verdict = judged(state, runner, device, job)
    keep(verdict)
    return verdict


def judged(
    state: State, runner: Runner, device: Slice, job: Job, audit: Audit | None = None
) -> Verdict:
    """Return the verdict of one job's run."""
    cell, name = job.cell, job.audit or job.mode.value
    folder, scenario = Path(job.folder), cell.scenario
    wish = clocks.wished(state.options, state.system)
    with (
        clocks.all_locked(wish, device.visible) as locked,
        observed(state.system, device.cpus, device.visible, scenario, folder) as around,
    ):
        done = runner.run(
            job, lambda beat: state.progress(shown(cell, name, around.see(beat)))
        )
    # A service that runs already may be on any machine, and ours is on the CPU.
    given = job.service is None or job.service.server is not None
    used = accelerators(device, done) if given else {}
    done = replace(done, facts={**done.facts, **around.facts, **used, **locked})
    claim = residency.claim_for(state.system, job, done)
    context = replace(
        context_for(state, device, done),
        audit=audit,
        claim=claim,
        devices=max(1, len(job.seats)),
    )
    found = rounds.get(cell.round)
    residency.write_proof(state.system, job, context)
    verdict = judge(Path(job.folder), cell, job.mode, job.rule, found, context)
    beside = published.comparisons(verdict, scenario)
    return replace(verdict, facts={**verdict.facts, **beside})


def keep(verdict: Verdict) -> None:
    """Write a verdict into its run's folder, for whatever builds on that run."""
    path = Path(verdict.folder) / VERDICT
    path.write_text(f"{verdict.to_json()}\n", encoding="utf-8")


def job_for(state: State, device: Slice, cell: Cell, mode: Mode, folder: Path) -> Job:
    """Return the job of one item."""
    options = state.options
    found = rounds.get(cell.round)
    rule = found.find(cell.benchmark, cell.target, cell.scenario)
    assert rule is not None, f"{cell} was collected, so {cell.round} has it"
    given: Mapping[str, object] = {}
    if not options.rehearsal:  # what a system file says is of engines that work
        given = state.system.tuning.lookup(
            cell.benchmark, cell.target, cell.scenario, cell.engine
        )
    service = None
    if not options.rehearsal and registry.is_answered_by_service(cell.benchmark):
        table = state.system.server.lookup(cell.benchmark, cell.target)
        service = service_for(options, table, device)
    return Job(
        cell=cell,
        mode=mode,
        rule=rule,
        residency=residency.granted(options, state.system, cell, len(device.seats)),
        seeds=found.seeds,
        engine=options.engine_spec(cell.engine),
        folder=str(folder),
        workload=options.workload,
        cache=str(options.cache),
        cpus=device.cpus,
        seats=device.seats if service is None else (),
        scratch=str(options.scratch) if options.scratch else None,
        tuning=tuning_for(options, given),
        engine_options=engine_options_for(options),
        shortening=shortening_for(options),
        service=service,
    )


def logs_folder(reports: Path, cell: Cell, kind: str) -> Path:
    """Return where LoadGen writes: a folder per cell, and mode or compliance test."""
    # A third-party engine's name is its own; as a folder it may not climb.
    name = re.sub(r"[^\w.-]", "_", cell.id)
    return reports / "logs" / name / kind


def new_folder(wanted: Path) -> Path:
    """Make and return a folder of this run's own: ``performance``, then ``-2`` …

    A repeated item must not write over the logs of the first, nor leave its own
    among them when it fails. Raises ``RunFailed`` where none can be made.
    """
    for number in itertools.count(1):
        folder = wanted.with_name(f"{wanted.name}-{number}") if number > 1 else wanted
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.is_dir():
                continue
            raise RunFailed(
                f"the logs folder {folder} is a file; it should be a folder of the "
                "run's own: remove it, or choose another --mlperf-reports DIR",
                folder=str(folder),
            ) from None
        except OSError as error:
            raise RunFailed(
                f"the logs folder {folder} cannot be made: {error.strerror}; give one "
                "that can be written with --mlperf-reports DIR",
                folder=str(folder),
            ) from error
        return folder
    raise AssertionError("counting does not end")


def tuning_for(options: Options, given: Mapping[str, object]) -> Tuning:
    """Return the system file's tuning, overridden by the command line."""
    known = {f.name for f in fields(Tuning)}
    chosen: dict[str, object] = {k: v for k, v in given.items() if k in known}
    sizes = chosen.get("preferred")
    if isinstance(sizes, list):
        chosen["preferred"] = tuple(sorted(sizes))
    for name in known:
        value = getattr(options, name, None)
        if value is not None:
            chosen[name] = value
    return Tuning(**chosen)  # type: ignore[arg-type]


def engine_options_for(options: Options) -> dict[str, str]:
    """Return what is passed on to the engine as it is."""
    provider = {"provider": options.provider} if options.provider else {}
    return {**dict(options.engine_options), **provider}


def shortening_for(options: Options) -> Shortening | None:
    """Return what shortens every run of this session, if anything does."""
    seconds = options.min_duration_s
    if seconds is None:
        return None
    why = "--fast" if options.fast else f"--mlperf-duration {seconds:g}"
    return Shortening(int(seconds * 1000), why)


def context_for(state: State, device: Slice, done: Done) -> Context:
    """Return what the rules need to know beside the logs."""
    # A stand-in has its own reference; the label says what kind of stand-in it is.
    kind = KIND_LABELS.get(done.workload_kind, "")
    # An engine may leave a worker's GPU alone (onnxruntime's CPU provider) and says so.
    said = done.facts.get("device", device.name)
    used = said if device.environment else device.name
    labels = [x for x in state.options.labels if x not in KIND_LABELS.values()]
    labels = [kind] * bool(kind) + labels + ["null answers"] * done.answers_only
    return Context(
        settings=done.settings,
        reference=dict(done.reference) if kind else None,
        hopeless=done.hopeless,
        labels=tuple(labels),
        expected_s=done.settings.expected_s,
        build=done.build,
        dataset_total=done.dataset_total,
        facts={
            **done.facts,
            "system": state.system.name,
            "device": used,
        },
    )


def accelerators(device: Slice, done: Done) -> dict[str, str]:
    """Return how many GPUs a run used, by what the engine says of its device."""
    left_alone = done.facts.get("device", "").endswith("CPU")
    count = 0 if left_alone else len(device.visible)
    return {"accelerators": str(count)} if count else {}


def shown(cell: Cell, kind: str, beat: Beat) -> Progress:
    """Return a runner's heartbeat as the progress line shows it."""
    if beat.phase != "run":
        # A probe's short trials count for the watchdog, not for people.
        return Progress(cell.id, kind, beat.phase, elapsed_s=beat.elapsed_s)
    rate = beat.completed / beat.elapsed_s if beat.elapsed_s else 0.0
    return Progress(
        cell=cell.id,
        mode=kind,
        phase=beat.phase,
        issued=beat.issued,
        completed=beat.completed,
        total=beat.total,
        rate=rate,
        elapsed_s=beat.elapsed_s,
        expected_s=beat.expected_s,
    )
