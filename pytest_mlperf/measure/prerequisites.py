"""Runs that other items need: done once a session, by whoever needs them first.

An item's place among the others decides nothing, because plugins reorder items and
schedulers of xdist spread a cell over workers. A compliance test does the selected runs
that it is compared with, unless they are done or at work on another worker, for which
it waits; their own items then take over what was measured.

Each run has a file that the session's workers share. Its lock is held while the run is
at work, and a worker that crashes gives it back. Whoever waits for one waits for a run
that has its devices already, so nobody waits in a circle.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from collections.abc import Set
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.audit import find_audit
from pytest_mlperf.measure.audit import list_needs
from pytest_mlperf.measure.audit import run_audit
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.runner.messages import Task

DONE = "done"
SPARE = "spare"
"""Done for another item; the run's own item has not come yet."""


@dataclass(slots=True)
class LedgerEntry:
    """What is known of one run; writable while its lock is held."""

    stream: IO[str]
    state: str = ""
    """Empty where nobody has done the run."""
    folder: str = ""

    def write(self, state: str, folder: str = "") -> None:
        self.stream.seek(0)
        self.stream.truncate()
        json.dump([state, folder], self.stream)
        self.stream.flush()


@dataclass(frozen=True, slots=True)
class RunLedger:
    """The runs of a session, in a folder that its workers share."""

    folder: Path

    @contextmanager
    def lock(self, task: Task, name: str) -> Iterator[LedgerEntry]:
        """Hold the entry of a cell's run, ``performance`` or ``TEST01``; waits while
        another worker is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{task.cell.file_name}-{name}-{task.devices}"
        with path.open("a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            with suppress(ValueError):  # nothing in it, or a worker's last words
                state, folder = json.load(stream)
                yield LedgerEntry(stream, state, folder)
                return
            yield LedgerEntry(stream)


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """How an item of a session runs, with what it needs and what others need of it."""

    rig: Rig
    ledger: RunLedger
    selected: Set[tuple[str, str]]
    """Id of the cell and name of the run (mode or compliance test) of every item."""

    def run(self, task: Task, name: str) -> Verdict:
        """Return the verdict of an item's own run; of what was done for another item,
        if that is there. Raises what ``run_task`` and ``run_audit`` raise.
        """
        with self.ledger.lock(task, name) as entry:
            if entry.state == SPARE:
                entry.write(DONE)
                with suppress(OSError):  # prepared, and not used
                    task.folder.rmdir()
                text = (Path(entry.folder) / VERDICT_FILE).read_text(encoding="utf-8")
                return Verdict.from_json(text)
            entry.write(DONE)  # also where it fails: nobody is to repeat it unasked
            return self._run(task, name)

    def _run(self, task: Task, name: str) -> Verdict:
        if name in (mode.value for mode in Mode):
            return run_task(self.rig, task)
        for need in list_needs(find_audit(name, task.cell.rule)):
            if (task.cell.id, need) in self.selected:
                self._run_needed(task, need)
        return run_audit(self.rig, task, name)

    def _run_needed(self, task: Task, name: str) -> None:
        """Do a run that an item needs, unless it is done."""
        with self.ledger.lock(task, name) as entry:
            if entry.state:
                return
            known = {mode.value: mode for mode in Mode}
            mode = known.get(name, Mode.COMPLIANCE)
            own = make_task_folder(self.rig.plan(task.cell, mode, name))
            verdict = self._run(own, name)
            entry.write(SPARE, verdict.folder)
