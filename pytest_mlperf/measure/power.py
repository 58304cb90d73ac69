"""A performance item's power: a ranging run, then the run that counts, on one meter.

Only the phase that went wrong is repeated (``power_phase``). A session of two phases is
one cell's, so that nothing of other cells is measured again either.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.power.figures import compute_figures
from pytest_mlperf.core.submission.check import power_time
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.power_meter import SOURCES_RULE
from pytest_mlperf.core.submission.check.problem import Problem
from pytest_mlperf.core.types import OWN_POWER_CLIENT
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.judged_run import run_and_judge
from pytest_mlperf.measure.power_notes import write_notes
from pytest_mlperf.measure.power_phase import PhaseRuns
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.power.client import PORT
from pytest_mlperf.power.client import PowerClient
from pytest_mlperf.power.official_client import OfficialClient
from pytest_mlperf.power.time_sync import split_address
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.tuning import saved

RANGING, TESTING = "ranging", "testing"


def run_with_power(rig: Rig, task: Task) -> Verdict:
    """Run a performance task under a power meter and return its verdict.

    The run's folder gets ``power``, ``ranging`` and ``spl.txt``. Raises ``RunRefused``
    where power cannot be measured, and what ``Runner.run`` raises.
    """
    session = rig.session
    if session.workers > 1:
        raise RunRefused(
            "--mlperf-power measures the whole machine at the wall, and "
            f"{session.workers} workers measure at once; run it without -n"
        )
    # Not below the task's folder: the official client's is not to be inside its logs'.
    output = make_folder(session.reports / "power" / task.cell.file_name)
    runs = PhaseRuns(partial(run_and_judge, rig), retargets=session.options.retarget)
    with open_session(session, output, task) as power:
        home = logs_folder(session.reports, task.cell, RANGING)
        first = make_task_folder(replace(task, folder=home))
        with power.phase(RANGING):
            ranged, ranging = runs.range(first)
            power.keep_logs(RANGING, Path(ranging.folder))
        # One tuning: ranging tells the power of the very run that counts.
        ranged = runs.follow(ranged, ranging) or ranged
        tuned = ranged.tuned or saved.read(Path(ranging.folder))
        with power.phase(TESTING):
            verdict = runs.test(replace(task, tuned=tuned))
            power.keep_logs(TESTING, Path(verdict.folder))
        power.finish()
    place_files(output, Path(verdict.folder))
    verdict = add_power(session, verdict, output)
    write_notes(Path(verdict.folder), output, session.system, verdict)
    told = f"{ranging.outcome}, {ranging.metric}"
    return replace(verdict, facts={**verdict.facts, "ranging run": told})


def open_session(
    session: MeasureSession, output: Path, task: Task
) -> PowerClient | OfficialClient:
    """Return the session that the options ask for."""
    options = session.options
    assert options.power
    assert options.power_ntp
    address = split_address(options.power, PORT)
    label = re.sub(r"[^A-Za-z0-9_-]", "-", task.cell.id)
    if options.power_client:
        return OfficialClient(
            options.power_client, address, options.power_ntp, output, label
        )
    return PowerClient(*address, options.power_ntp, output, label)


def place_files(session: Path, run: Path) -> None:
    """Copy a session's files into its run's folder, as a submission takes them."""
    for name in ("power", "ranging"):
        (run / name).mkdir()
        for path in (session / name).iterdir():
            shutil.copyfile(path, run / name / path.name)
    shutil.copyfile(session / "run_1" / "spl.txt", run / "spl.txt")


def add_power(session: MeasureSession, verdict: Verdict, output: Path) -> Verdict:
    """Return the verdict with the power's figures and what is wrong with its files."""
    is_official = session.options.power_client is not None
    problems = find_problems(output, verdict.round)
    checks = [make_check(one, is_official) for one in problems]
    if not any(check.status is Status.FAIL for check in checks):
        told = "session, meter, clocks, readings and digests that agree"
        checks.append(Check("power", Status.PASS, told, "that they agree", "power/"))
    metric, figures = verdict.metric, None
    with suppress(LogError):  # a check has told of it
        figures = compute_figures(
            Path(verdict.folder),
            output / "run_1" / "spl.txt",
            Scenario(verdict.scenario),
            metric.value if metric else 0.0,
            metric.unit if metric else "",
        )
    return replace(
        verdict,
        checks=(*verdict.checks, *checks),
        labels=(*verdict.labels, *([OWN_POWER_CLIENT] * (not is_official))),
        run=replace(verdict.run, power=figures.to_dict() if figures else {}),
        facts={**verdict.facts, **({"power": str(figures)} if figures else {})},
    )


def find_problems(output: Path, round_name: str) -> Iterator[Problem]:
    """Yield what a round's rules have against a session's files."""
    listing = Listing.of(output.parent)
    yield from power_time.session_problems(listing, output.name, round_name)


def make_check(problem: Problem, is_official: bool) -> Check:
    """Return a problem as a check of the run.

    Of our own client or director it is known that a submission does not take them; that
    is waived, as the label says, where nobody asked for the official client.
    """
    is_known = problem.rule == SOURCES_RULE and not is_official
    return Check(
        problem.rule,
        Status.WAIVED if is_known else Status.FAIL,
        problem.found,
        problem.required,
        problem.where.partition("/")[2],
        problem.remedy,
    )
