"""The judge: from a LoadGen folder to a verdict. Nothing else judges a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks.audit import use_audit_seeds
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.checks.table import CHECKS
from pytest_mlperf.core.judge.figures import add_figures
from pytest_mlperf.core.judge.notes import list_notes
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict

__all__ = ["Context", "judge", "judge_log"]


def judge(folder: Path, cell: Cell, mode: Mode, context: Context) -> Verdict:
    """Return what the cell's round says of the run that LoadGen logged in a folder.

    Never raises for what is in the folder: a log that cannot be read is a verdict
    with one check in error.
    """
    try:
        log = Log.read(folder)
    except LogError as error:
        verdict = verdict_before_checks(folder, cell, mode, context)
        return replace(verdict, checks=(check_unreadable("log", error),))
    return judge_log(log, cell, mode, context)


def judge_log(log: Log, cell: Cell, mode: Mode, context: Context) -> Verdict:
    """Return what the cell's rule and its round say of a log that has been read."""
    verdict = verdict_before_checks(log.folder, cell, mode, context)
    table = rounds.get(cell.round)
    run = use_audit_seeds(JudgedRun(log, cell, mode, table, context))
    outcomes = (rule.judge(run) for rule in CHECKS if rule.applies(run))
    checks = tuple(chain.from_iterable(outcomes))
    facts = {**verdict.facts, **list_notes(run)}
    return add_figures(run, replace(verdict, checks=checks, facts=facts))


def verdict_before_checks(
    folder: Path, cell: Cell, mode: Mode, context: Context
) -> Verdict:
    """Return the verdict of a run before any rule was checked."""
    settings = context.settings
    expected = context.expected_s
    if expected is None and settings is not None:
        expected = settings.expected_s
    return Verdict(
        benchmark=cell.model,
        scenario=cell.scenario.value,
        engine=cell.engine,
        mode=context.audit.name if context.audit else mode.value,
        round=cell.round,
        metric=None,
        checks=(),
        labels=context.labels,
        expected_s=expected,
        actual_s=context.actual_s,
        folder=str(folder),
        build=context.build,
        facts={**context.run.to_texts(), **context.facts},
        run=context.run,
    )
