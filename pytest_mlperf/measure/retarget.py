"""An INVALID run's remedy, applied once: the same task with another value."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.retarget import choose_retarget
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.logs.log import LogError
from pytest_mlperf.core.types import BOUNDED
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved

PREFIX = "retargeted: "


@dataclass(frozen=True, slots=True)
class Remedy:
    """What the run after an INVALID one is to have."""

    tuned: TunedLoad
    keeps_load: bool
    """False where it asks a server for less; otherwise the run is only longer."""

    @property
    def note(self) -> str:
        """What became of which value, in words."""
        return self.tuned.note


def find_remedy(task: Task, verdict: Verdict) -> Remedy | None:
    """Return the remedy of an INVALID run; None where it is no value."""
    if task.mode is not Mode.PERFORMANCE or verdict.outcome != "INVALID":
        return None
    with suppress(OSError, ValueError, LogError):
        folder = Path(verdict.folder)
        table, context = rounds.get(task.cell.round), Context(run=verdict.run)
        run = JudgedRun(Log.read(folder), task.cell, task.mode, table, context)
        if values := choose_retarget(run):
            before = saved.read(folder)
            changes: dict[str, Any] = {
                **values,
                "note": describe_change(before, values),
            }
            is_bounded = task.rule.scenario in BOUNDED
            return Remedy(
                replace(before.forget_findings(), **changes),
                keeps_load=not (is_bounded and "target_qps" in values),
            )
    return None


def describe_change(before: TunedLoad, values: Mapping[str, float | int]) -> str:
    """Return what became of which value, in words."""
    changes = [
        f"{name} {getattr(before, name) or 'the least'} to {value:.6g}"
        for name, value in values.items()
    ]
    return PREFIX + ", ".join(changes)


def describe_first_run(note: str, first: Verdict) -> str:
    """Return what a second run changed, and how the first one ended."""
    figure = f" at {first.metric}" if first.metric else ""
    return (
        f"{note}; the first run was {first.outcome}{figure} ({first.cause}) in "
        f"{first.folder}"
    )


def add_first_run(verdict: Verdict, first: Verdict, task: Task) -> Verdict:
    """Return a second run's verdict, which tells of the first one too."""
    assert task.tuned is not None, "its remedy has tuned it"
    note = task.tuned.note
    told = {
        "outcome": first.outcome,
        "cause": first.cause,
        "figure": str(first.metric or ""),
        "folder": first.folder,
        "change": note.removeprefix(PREFIX),
    }
    return replace(
        verdict,
        facts={**verdict.facts, RETARGETED: describe_first_run(note, first)},
        run=replace(verdict.run, first_run=told),
    )
