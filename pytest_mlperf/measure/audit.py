"""A compliance run: what it is compared with, how often it is tried, what it proves.

Performance and accuracy of the cell come first, on the same engine build; the audited
run then has the very same tuning as its performance run.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.compliance import Audit
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.compliance import write
from pytest_mlperf.core.compliance.speed import TOLERANCE
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.rounds.rule import Rule
from pytest_mlperf.core.types import NULL_ANSWERS
from pytest_mlperf.core.types import OWN_POWER_CLIENT
from pytest_mlperf.core.types import UNOFFICIAL
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.judged_run import run_and_judge
from pytest_mlperf.measure.judged_run import write_verdict
from pytest_mlperf.measure.residency import requested_residency
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved

ATTEMPTS = 3
"""Runs at most, where a disturbed machine missed the performance tolerance. The rules
ask for a passing run and limit no repetition; a wrong answer is never repeated."""
RULE_OR_ENGINE = {NULL_ANSWERS, UNOFFICIAL, OWN_POWER_CLIENT}
"""Labels that come with a cell; the others come with the session's options."""


@dataclass(frozen=True, slots=True)
class Basis:
    """The runs that an audited run is compared with."""

    folders: Mapping[str, Path]
    """What the test needs -> the run's folder; ``performance`` is always there."""
    build: str
    tuned: TunedLoad


def run_audit(rig: Rig, task: Task, test: str) -> Verdict:
    """Run one compliance test of a planned task's cell and return its verdict.

    Raises ``RunRefused`` where there is nothing to compare with, and what
    ``Runner.run`` raises.
    """
    cell, session = task.cell, rig.session
    options = session.options
    audit = find_audit(test, cell.rule)
    basis = find_basis(options, session.reports, cell, audit, task.devices)
    task = audit_task(task, audit, basis)
    attempts = 1 if options.rehearsal or options.is_shortened else ATTEMPTS
    history: list[str] = []
    for number in range(1, attempts + 1):
        if number > 1:
            folder = make_folder(logs_folder(session.reports, cell, test))
            task = replace(task, folder=folder)
        verdict = run_and_judge(rig, task)
        verdict = verify_audit(verdict, task, basis)
        if number > 1:
            attempt = f"attempt {number} of {attempts}: {'; '.join(history)}"
            verdict = replace(verdict, facts={**verdict.facts, "attempt": attempt})
        write_verdict(verdict)
        if not has_missed_by_speed(verdict):
            break
        history.append(
            f"attempt {number} had {speed_found(verdict)} [{task.folder.name}]"
        )
    return verdict


def audit_task(task: Task, audit: Audit, basis: Basis) -> Task:
    """Return a task as a compliance test of its cell."""
    return replace(
        task,
        audit=audit,
        tuned=basis.tuned,
        references=basis.folders,
        required_build=basis.build,
    )


def verify_audit(verdict: Verdict, task: Task, basis: Basis) -> Verdict:
    """Return the verdict with the verification's checks; write the official files."""
    audit, folder = task.audit, task.folder
    assert audit is not None, "a compliance task has its test"
    findings = verify(audit, task.rule, folder, basis.folders)
    write(audit, folder, findings, basis.folders)
    folders = {need: str(path) for need, path in basis.folders.items()}
    run = replace(verdict.run, compared_with=folders)
    return replace(
        verdict,
        checks=(*verdict.checks, *(c for found in findings for c in found.checks)),
        facts={
            **verdict.facts,
            **{f"compared with {k}": v for k, v in folders.items()},
        },
        run=run,
    )


def has_missed_by_speed(verdict: Verdict) -> bool:
    """Return whether the performance tolerance alone keeps a run from being VALID."""
    bad = {c.name for c in verdict.checks if c.status in (Status.FAIL, Status.ERROR)}
    return verdict.outcome == "INVALID" and bad == {TOLERANCE}


def speed_found(verdict: Verdict) -> str:
    """Return what the performance part found."""
    return next(c.found for c in verdict.checks if c.name == TOLERANCE)


def find_audit(name: str, rule: Rule) -> Audit:
    """Return a compliance test's settings for a rule; ``RunRefused`` for a benchmark
    that it has none for.
    """
    try:
        return find(name, rule)
    except ValueError as error:
        raise RunRefused(
            f"{error}, and what it should be is the round's to say; a benchmark of "
            "your own names no such test (compliance=() in its Family), or one of its "
            "own (docs/extend/rule.md)"
        ) from None


def list_needs(audit: Audit) -> tuple[str, ...]:
    """Return the runs that a test is compared with, ``performance`` first."""
    return tuple(dict.fromkeys(("performance", *audit.needs)))


def find_basis(
    options: Options, reports: Path, cell: Cell, audit: Audit, devices: int = 1
) -> Basis:
    """Return what a compliance run is compared with: the newest VALID runs.

    They are of one build and as many devices, of this session, else of the earlier
    one whose reports folder ``--mlperf-tree`` names. Raises ``RunRefused`` that says
    what to select.
    """
    needs = list_needs(audit)
    homes = [reports, *([options.tree] if options.tree else [])]
    found = {
        name: list(valid_verdicts(options, homes, cell, name, devices))
        for name in needs
    }
    for first in found["performance"]:
        same = {
            name: next((v for v in found[name] if v.build == first.build), None)
            for name in needs
        }
        chosen = {k: Path(v.folder) for k, v in same.items() if v is not None}
        if len(chosen) == len(needs):
            folder = chosen["performance"]
            return Basis(chosen, first.build, read_tuning(folder, audit))
    problem = describe_missing_basis(audit, cell, found, devices)
    missing = [name for name in needs if not found[name]]
    invalid = [
        name
        for name in missing
        if not all(one.valid for one in list_verdicts(reports, cell, name))
    ]
    raise RunRefused(problem + describe_remedy(cell, invalid))


def valid_verdicts(
    options: Options, homes: list[Path], cell: Cell, name: str, devices: int
) -> Iterator[Verdict]:
    """Yield the VALID verdicts of a cell's runs, newest first, home by home."""
    residency = requested_residency(options)
    for home in homes:
        for verdict in list_verdicts(home, cell, name):
            labels = {*verdict.labels} - RULE_OR_ENGINE
            same = labels == {*options.labels} and verdict.round == cell.round
            # Samples on the device: as fast as that, and only as that.
            same = same and verdict.run.on_device == residency.flags
            # What two devices did, one is not to confirm, nor the other way round.
            same = same and verdict.run.devices == devices
            if verdict.valid and same:
                yield verdict


def list_verdicts(home: Path, cell: Cell, name: str) -> Iterator[Verdict]:
    """Yield the verdicts of a cell's runs of one name, the newest first."""
    wanted = logs_folder(home, cell, name)
    paths = [
        path
        for path in wanted.parent.glob(f"{name}*/{VERDICT_FILE}")
        if path.parent.name.removeprefix(name).lstrip("-").isdigit()
        or path.parent == wanted
    ]
    for path in sorted(paths, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        with suppress(OSError, ValueError):
            verdict = Verdict.from_json(read_text(path))
            # The folder may have been moved since.
            yield replace(verdict, folder=str(path.parent))


def read_tuning(folder: Path, audit: Audit) -> TunedLoad:
    """Return how a run was tuned; ``RunRefused`` where its folder does not say."""
    try:
        return saved.read(folder)
    except (OSError, ValueError) as error:
        raise RunRefused(
            f"{audit.name} has to be tuned as its performance run was, but "
            f"{saved.FILE} in {folder} cannot be read ({error}); run performance, "
            "accuracy and compliance of this cell in one session"
        ) from error


def describe_missing_basis(
    audit: Audit, cell: Cell, found: Mapping[str, list[Verdict]], devices: int
) -> str:
    """Return the words for a compliance run without its reference."""
    counts = ", ".join(f"{len(v)} VALID {name}" for name, v in found.items())
    what = " and ".join(found)
    missing = [name for name, verdicts in found.items() if not verdicts]
    problem = f"there is no VALID {' and no '.join(missing)} run"
    problem += f" on {devices} devices" * (devices > 1)
    if not missing:
        problem = f"the VALID runs ({counts}) are of different engine builds"
    return (
        f"{audit.name} of {cell.id} is compared with a VALID run of {what} on one "
        f"engine build, but {problem} of this cell under {cell.round} to compare with; "
    )


def describe_remedy(cell: Cell, invalid: Sequence[str]) -> str:
    """Return what to do; ``invalid``: what this session ran, and is not VALID."""
    if invalid:
        return f"the verdict of {' and '.join(invalid)} says what to change first"
    return (
        f'select them together (-k "{cell.benchmark} and {cell.scenario.slug}"), or '
        "name the reports folder of the session that has them with --mlperf-tree DIR"
    )
