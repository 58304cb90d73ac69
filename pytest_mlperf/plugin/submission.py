"""The submission that a session ends in: what stands between pytest and the writer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.plugin.usage_errors import as_usage_errors

if TYPE_CHECKING:
    from pytest_mlperf.core.session_results import Record
    from pytest_mlperf.core.submission.runs import Run
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.measure.session import MeasureSession
    from pytest_mlperf.submission.session import Submission

PACKAGES = ("pytest-mlperf", "mlcommons-loadgen")
"""Whose versions a submission names beside the engine's."""


def choose_category(options: Options, system: System) -> Options:
    """Return the options with the category of the submission; raises ``UsageError``
    where there is none.
    """
    from pytest_mlperf.submission.system_description import find_category

    with as_usage_errors():
        return replace(options, category=find_category(options, system))


def refuse_hopeless(
    session: MeasureSession, command: Sequence[str], cells: Iterable[Cell]
) -> None:
    """Raise ``UsageError`` where no run could make the submission good."""
    from pytest_mlperf.submission.checkers import find_absence

    cells = list(cells)
    if cells and not any(rounds.is_official(cell.rule) for cell in cells):
        names = ", ".join(sorted({cell.model for cell in cells}))
        raise pytest.UsageError(
            f"--mlperf-submission: {names} by rules of their own: no round has them, "
            "in no division; omit the option, or select benchmarks of the round too"
        )
    if absence := find_absence(session.options.checker):
        raise pytest.UsageError(f"--mlperf-checker: {absence}")
    engines = {session.options.engine_spec(cell.engine) for cell in cells}
    answering = [name for name in sorted(engines) if _answers_only(name)]
    try:
        problem = make_submission(session, command).refusal(answering)
    except OSError as error:
        problem = f"{error.filename} cannot be written: {error.strerror}"
    if problem:
        raise pytest.UsageError(f"--mlperf-submission: {problem}")


def _answers_only(spec: str) -> bool:
    """Return whether an engine infers nothing, as ``null`` does."""
    is_engine = registry.provider_kind(spec) == "engine"
    return is_engine and bool(registry.load("engine", spec).answers)


def is_tree(options: Options, rootdir: Path, path: Path) -> bool:
    """True for a submission that lies among the files to be collected."""
    if path == options.tree:
        return path != rootdir
    return path.name == "submission" and path.parent.parent == options.reports


def submit(
    session: MeasureSession,
    command: Sequence[str],
    records: Sequence[Record],
    *,
    interrupted: bool,
) -> tuple[bool, list[str]]:
    """Write the session's submission; return whether it is good, and what to print."""
    if interrupted:
        text = "submission: not written, the session was interrupted; its runs count"
        return False, [f"{text} in a later one with --mlperf-tree {session.reports}"]
    skipped = [
        f"{r.nodeid.rpartition('::')[2]}: skipped: {r.reason.partition(chr(10))[0]}"
        for r in records
        if r.outcome == "skipped"
    ]
    runs = list(read_session_runs(session.reports, records))
    outcome = make_submission(session, command).finish(runs, skipped)
    return outcome.good, outcome.lines


def make_submission(session: MeasureSession, command: Sequence[str]) -> Submission:
    """Return what the session is to submit; ``command``: pytest's arguments."""
    from pytest_mlperf.reporting.results import find_versions
    from pytest_mlperf.submission.session import Submission

    return Submission(
        options=session.options,
        system=session.system,
        reports=session.reports,
        command=list(command),
        versions=find_versions(PACKAGES),
        environ=os.environ,
    )


def read_session_runs(reports: Path, records: Iterable[Record]) -> Iterator[Run]:
    """Yield the session's runs, each with the reason why its item did not pass.

    The verdicts are those beside the logs: an item that tried an audit again has more
    than the one in its record.
    """
    from pytest_mlperf.core.submission.runs import read_runs

    by_folder = {r.verdict.folder: r for r in records if r.verdict}
    for run in read_runs(reports):
        record = by_folder.get(str(run.folder))
        yield replace(run, trouble=_describe_trouble(record)) if record else run


def _describe_trouble(record: Record) -> str:
    """Return why a test failed although its run is VALID; empty where it did not."""
    assert record.verdict is not None
    if record.outcome == "passed" or not record.verdict.valid:
        return ""
    return f"{record.outcome}: {record.reason.partition(chr(10))[0]}"
