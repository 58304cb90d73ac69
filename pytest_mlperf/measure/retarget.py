"""An INVALID run's remedy, applied once: the same task with another value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.retarget import choose_retarget
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_folder
from pytest_mlperf.measure.peak_trials import LOAD_OF_ITS_OWN
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.tuning import saved


def retarget(task: Task, verdict: Verdict) -> Task | None:
    """Return the task that follows an INVALID run; None where no value helps."""
    if task.mode is not Mode.PERFORMANCE or verdict.outcome != "INVALID":
        return None
    with suppress(OSError, ValueError, LogError):
        table, context = rounds.get(task.cell.round), Context(run=verdict.run)
        log = Log.read(task.folder)
        values = choose_retarget(JudgedRun(log, task.cell, task.mode, table, context))
        if values:
            before = saved.read(task.folder)
            return replace(
                task,
                folder=make_folder(task.folder),
                tuned={
                    **before,
                    **LOAD_OF_ITS_OWN,
                    **values,
                    "note": describe_change(before, values),
                },
            )
    return None


def describe_change(
    before: Mapping[str, object], values: Mapping[str, float | int]
) -> str:
    """Return what became of which value, in words."""
    changes = [
        f"{name} {before.get(name) or 'the least'} to {value:.6g}"
        for name, value in values.items()
    ]
    return f"retargeted: {', '.join(changes)}"


def add_first_run(verdict: Verdict, first: Verdict, task: Task) -> Verdict:
    """Return a second run's verdict, which tells of the first one too."""
    text = (
        f"{task.tuned['note']}; the first run was {first.outcome} ({first.cause}) in "
    )
    return replace(verdict, facts={**verdict.facts, RETARGETED: text + first.folder})
