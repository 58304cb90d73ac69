"""The submission that a session ends in: what stands between pytest and the writer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.core.types import Cell

if TYPE_CHECKING:
    from pytest_mlperf.core.submission.runs import Run
    from pytest_mlperf.plugin.session import State
    from pytest_mlperf.reporting.record import Record
    from pytest_mlperf.submission.session import Submission

PACKAGES = ("pytest-mlperf", "mlcommons-loadgen")
"""Whose versions a submission names beside the engine's."""


def settle(state: State) -> None:
    """Find out the category of a session that submits; ``UsageError`` without one."""
    if not state.options.submission:
        return
    from pytest_mlperf.submission.session import category_of

    try:
        found = category_of(state.options, state.system)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    state.options = replace(state.options, category=found)


def refuse(state: State, cells: Iterable[Cell]) -> None:
    """Raise ``UsageError`` where no run could make the submission good."""
    engines = {state.options.engine_spec(cell.engine) for cell in cells}
    answering = [name for name in sorted(engines) if registry.engine(name).answers]
    try:
        problem = submission(state).refusal(answering)
    except OSError as error:
        problem = f"{error.filename} cannot be written: {error.strerror}"
    if problem:
        raise pytest.UsageError(f"--mlperf-submission: {problem}")


def is_tree(state: State, path: Path) -> bool:
    """True for a submission that lies among the files to be collected."""
    if path == state.options.tree:
        return path != state.config.rootpath
    return path.name == "submission" and path.parent.parent == state.options.reports


def submit(state: State) -> tuple[bool, list[str]]:
    """Write the session's submission; return if it is good, and what to say."""
    if state.interrupted:
        text = "submission: not written, the session was interrupted; its runs count"
        return False, [f"{text} in a later one with --mlperf-tree {state.reports}"]
    skipped = [
        f"{r.nodeid.rpartition('::')[2]}: skipped: {r.reason.partition(chr(10))[0]}"
        for r in state.records
        if r.outcome == "skipped"
    ]
    outcome = submission(state).finish(list(runs(state)), skipped)
    return outcome.good, outcome.lines


def submission(state: State) -> Submission:
    """Return what the session is to submit."""
    from pytest_mlperf.reporting.results import versions
    from pytest_mlperf.submission.session import Submission

    return Submission(
        options=state.options,
        system=state.system,
        reports=state.reports,
        command=[str(arg) for arg in state.config.invocation_params.args],
        versions=versions(PACKAGES),
        environ=os.environ,
    )


def runs(state: State) -> Iterator[Run]:
    """Yield the session's runs, each with the reason why its item did not pass.

    The verdicts are those beside the logs: an item that tried an audit again has more
    than the one in its record.
    """
    from pytest_mlperf.core.submission.runs import read_runs

    told = {r.verdict.folder: r for r in state.records if r.verdict}
    for run in read_runs(state.reports):
        record = told.get(str(run.folder))
        yield replace(run, trouble=_trouble(record)) if record else run


def _trouble(record: Record) -> str:
    """Return why a test failed although its run is VALID; empty where it did not."""
    assert record.verdict is not None
    if record.outcome == "passed" or not record.verdict.valid:
        return ""
    return f"{record.outcome}: {record.reason.partition(chr(10))[0]}"
