"""May a cell start from, or end on, the device here? Asked before a run, proven after.

Refused before the run for everything that no throughput can mend; what the throughput
decides is a check of the verdict. Either way the reckoning lies in the run's folder.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.device import DIAGRAM
from pytest_mlperf.core.checks.device import PROOF
from pytest_mlperf.core.checks.device import decide_claim
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.residency.rules import Claim
from pytest_mlperf.core.residency.rules import Residency
from pytest_mlperf.core.residency.rules import find_refusals
from pytest_mlperf.core.residency.rules import find_undeclared
from pytest_mlperf.core.residency.rules import format_proof
from pytest_mlperf.core.types import Mode
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import Task

if TYPE_CHECKING:
    from pytest_mlperf.config.options import Options
    from pytest_mlperf.machine.system import System


def requested_residency(options: Options) -> Residency:
    """Return what the user asks for in this session."""
    return Residency(options.start_from_device, options.end_on_device)


def check_residency_allowed(
    options: Options, system: System, cell: Cell, devices: int = 1
) -> Residency:
    """Return what a cell may try; ``RunRefused`` with every reason at once."""
    wanted = requested_residency(options)
    if not wanted:
        return wanted
    reasons = find_refusals(system.name, system.on_device, cell.benchmark, wanted)
    reasons += find_undeclared(system.on_device, wanted)
    drawing = system.on_device.diagram
    if drawing and find_diagram(system) is None:
        reasons.append(
            f"diagram = {drawing!r} is no file; give its path from the system file's "
            "folder, or the folder above it"
        )
    if wanted.end and devices > 1:
        reasons.append(
            "end_on_device completes a batch in the process that has the answers, but "
            f"LoadGen is beside {devices} devices' processes: use "
            "--mlperf-devices-per-item 1"
        )
    if reasons:
        listed = "".join(f"\n  - {why}" for why in reasons)
        raise RunRefused(
            f"{' and '.join(wanted.flags)} of {cell.id} is refused:{listed}"
        )
    return wanted


def find_diagram(system: System) -> Path | None:
    """Return the drawing that the system file names; None where it is not there."""
    drawing, file = system.on_device.diagram, system.tuning.path
    if not drawing:
        return None
    homes = [file.resolve().parent, file.resolve().parents[1]] if file else [Path()]
    found = (home / drawing for home in homes)
    return next((path for path in found if path.is_file()), None)


def make_claim(system: System, task: Task, result: RunResult) -> Claim | None:
    """Return what the judge decides by; None for a run as every other."""
    if not task.residency:
        return None
    return Claim(
        task.residency, system.name, system.on_device, result.type_bytes, result.copies
    )


def write_proof(system: System, task: Task, context: Context) -> None:
    """Write the reckoning and the drawing beside a performance run's logs."""
    if context.claim is None or task.mode is not Mode.PERFORMANCE:
        return
    folder, table = task.folder, rounds.get(task.cell.round)
    with suppress(LogError, ValueError, OSError):  # the verdict says the same
        run = JudgedRun(Log.read(folder), task.cell, task.mode, table, context)
        (folder / PROOF).write_text(format_proof(decide_claim(run)), encoding="utf-8")
        drawing = find_diagram(system)
        if drawing is not None:
            shutil.copyfile(drawing, folder / f"{DIAGRAM}{drawing.suffix}")
