"""A compliance run: what it is compared with, how often it is tried, what it proves.

Performance and accuracy of the cell come first, on the same engine build; the audited
run then has the very same tuning as its performance run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from pytest_mlperf.api import registry
from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance import Audit
from pytest_mlperf.core.compliance import find
from pytest_mlperf.core.compliance import verify
from pytest_mlperf.core.compliance import write
from pytest_mlperf.core.compliance.report import VERIFY_PERFORMANCE
from pytest_mlperf.core.compliance.verify import TOLERANCE
from pytest_mlperf.core.errors import Refused
from pytest_mlperf.core.residency.rules import said_in
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.placement import Slice
from pytest_mlperf.measure.residency import wished
from pytest_mlperf.measure.run import VERDICT
from pytest_mlperf.measure.run import job_for
from pytest_mlperf.measure.run import judged
from pytest_mlperf.measure.run import keep
from pytest_mlperf.measure.run import logs_folder
from pytest_mlperf.measure.run import new_folder
from pytest_mlperf.runner.messages import Job
from pytest_mlperf.runner.runner import Runner

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.plugin.session import State

ATTEMPTS = 3
"""Runs at most, where a disturbed machine missed the performance tolerance. The rules
ask for a passing run and limit no repetition; a wrong answer is never repeated."""
NULL = "null answers"
TUNING = "tuning.json"


@dataclass(frozen=True, slots=True)
class Basis:
    """The runs that an audited run is compared with."""

    folders: Mapping[str, Path]
    """What the test needs -> the run's folder; ``performance`` is always there."""
    build: str
    tuned: Mapping[str, Any]


def run_audit(
    state: State, runner: Runner, device: Slice, cell: Cell, test: str
) -> Verdict:
    """Run one compliance test of a cell and return its verdict.

    Raises ``Refused`` where there is nothing to compare with, and what ``Runner.run``
    raises.
    """
    rule = rounds.get(cell.round).find(cell.benchmark, cell.target, cell.scenario)
    assert rule is not None, f"{cell} was collected, so {cell.round} has it"
    audit = find(test, rule)
    options = state.options
    devices = device.count
    if devices > 1 and registry.is_answered_by_service(cell.benchmark):
        devices = 1  # whatever its server does with them
    basis = basis_for(options, state.reports, cell, audit, devices)
    attempts = 1 if options.rehearsal or options.is_shortened else ATTEMPTS
    story: list[str] = []
    for number in range(1, attempts + 1):
        folder = new_folder(logs_folder(state.reports, cell, test))
        job = job_for(state, device, cell, Mode.COMPLIANCE, folder)
        verdict = judged(state, runner, device, audited(job, test, basis), audit)
        verdict = verified(verdict, audit, job, basis)
        if number > 1:
            attempt = f"attempt {number} of {attempts}: {'; '.join(story)}"
            verdict = replace(verdict, facts={**verdict.facts, "attempt": attempt})
        keep(verdict)
        if not missed_by_speed(verdict):
            break
        story.append(f"attempt {number} had {speed(verdict)} [{folder.name}]")
    return verdict


def audited(job: Job, test: str, basis: Basis) -> Job:
    """Return a job as a compliance test of its cell."""
    return replace(
        job,
        audit=test,
        tuned=basis.tuned,
        references={name: str(path) for name, path in basis.folders.items()},
        required_build=basis.build,
    )


def verified(verdict: Verdict, audit: Audit, job: Job, basis: Basis) -> Verdict:
    """Return the verdict with the verification's checks; write the official files."""
    folder = Path(verdict.folder)
    findings = verify(audit, job.rule, folder, basis.folders)
    write(audit, folder, findings)
    if audit.name == "TEST04-B":
        # The pair has one file, and the checker of its round looks for it there.
        text = (folder / VERIFY_PERFORMANCE).read_text(encoding="utf-8")
        (basis.folders["TEST04-A"] / VERIFY_PERFORMANCE).write_text(text, "utf-8")
    compared = {f"compared with {k}": str(path) for k, path in basis.folders.items()}
    return replace(
        verdict,
        checks=(*verdict.checks, *(c for found in findings for c in found.checks)),
        facts={**verdict.facts, **compared},
    )


def missed_by_speed(verdict: Verdict) -> bool:
    """Return whether the performance tolerance alone keeps a run from being VALID."""
    bad = {c.name for c in verdict.checks if c.status in (Status.FAIL, Status.ERROR)}
    return verdict.outcome == "INVALID" and bad == {TOLERANCE}


def speed(verdict: Verdict) -> str:
    """Return what the performance part found."""
    return next(c.found for c in verdict.checks if c.name == TOLERANCE)


def basis_for(
    options: Options, reports: Path, cell: Cell, audit: Audit, devices: int = 1
) -> Basis:
    """Return what a compliance run is compared with: the newest VALID runs.

    They are of one build and as many devices, of this session, else of the earlier
    one whose reports folder ``--mlperf-tree`` names. Raises ``Refused`` that says what
    to select.
    """
    needs = tuple(dict.fromkeys(("performance", *audit.needs)))
    homes = [reports, *([options.tree] if options.tree else [])]
    found = {name: list(valid(options, homes, cell, name, devices)) for name in needs}
    for first in found["performance"]:
        same = {
            name: next((v for v in found[name] if v.build == first.build), None)
            for name in needs
        }
        chosen = {k: Path(v.folder) for k, v in same.items() if v is not None}
        if len(chosen) == len(needs):
            folder = chosen["performance"]
            return Basis(chosen, first.build, tuning_of(folder, audit))
    raise Refused(nothing_to_compare(audit, cell, found, devices))


def valid(
    options: Options, homes: list[Path], cell: Cell, name: str, devices: int = 1
) -> Iterator[Verdict]:
    """Yield the VALID verdicts of a cell's runs, newest first, home by home."""
    for home in homes:
        wanted = logs_folder(home, cell, name)
        paths = [
            path
            for path in wanted.parent.glob(f"{name}*/{VERDICT}")
            if path.parent.name.removeprefix(name).lstrip("-").isdigit()
            or path.parent == wanted
        ]
        for path in sorted(paths, key=lambda p: p.stat().st_mtime_ns, reverse=True):
            with suppress(OSError, ValueError):
                verdict = Verdict.from_json(path.read_text(encoding="utf-8"))
                labels = {label for label in verdict.labels if label != NULL}
                same = labels == {*options.labels} and verdict.round == cell.round
                # Samples on the device: as fast as that, and only as that.
                same = same and said_in(verdict.facts) == wished(options).flags
                # What two devices did, one is not to confirm, nor the other way round.
                same = same and verdict.devices == str(devices)
                if verdict.valid and same:
                    # The folder may have been moved since.
                    yield replace(verdict, folder=str(path.parent))


def tuning_of(folder: Path, audit: Audit) -> Mapping[str, Any]:
    """Return how a run was tuned; ``Refused`` where its folder does not say."""
    try:
        tuned: Mapping[str, Any] = json.loads((folder / TUNING).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(
            f"{audit.name} has to be tuned as its performance run was, but {TUNING} in "
            f"{folder} cannot be read ({error}); run performance, accuracy and "
            "compliance of this cell in one session"
        ) from error
    return tuned


def nothing_to_compare(
    audit: Audit, cell: Cell, found: Mapping[str, list[Verdict]], devices: int = 1
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
        f'select them together (-k "{cell.benchmark} and {cell.scenario.slug}"), or '
        "name the reports folder of the session that has them with --mlperf-tree DIR"
    )
