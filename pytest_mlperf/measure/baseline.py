"""An earlier session that this one is compared with: its figures and its tuning."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.comparison import CellComparison
from pytest_mlperf.core.comparison import compare_runs
from pytest_mlperf.core.comparison import compare_sessions
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import logs_folder
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import find_file
from pytest_mlperf.reporting.results import read_results
from pytest_mlperf.sut.tuned_load import TunedLoad
from pytest_mlperf.tuning import saved

LATEST = "latest"
SAVED = "saved"
"""Folder of the sessions that have a name, beside the sessions' own."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A finished session, in its reports folder."""

    file: Path
    session: SessionResults

    @classmethod
    def read(cls, wanted: str, own: Path) -> Baseline:
        """Return the session that ``--mlperf-compare`` means.

        ``own``: reports folder of the session at hand; ``latest`` is the newest beside
        it, and a name is looked for there before a path. ``ValueError`` says what was
        found instead of one.
        """
        folder = find_latest(own) if wanted == LATEST else Path(wanted)
        if (named := own.parent / SAVED / wanted / FILE).is_file():
            folder = named.parent
        file = find_file(folder)
        if not file.is_file():
            raise ValueError(
                f"--mlperf-compare: {file} is not there; name a session's reports "
                f"folder or its {FILE}, {LATEST}, or {_list_saved(own.parent / SAVED)}"
            )
        try:
            return cls(file, read_results(file, allow_partial=True))
        except (OSError, ValueError) as error:
            raise ValueError(f"--mlperf-compare: {error}") from None

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def shown(self) -> str:
        """Its folder; a file of another name itself, as a CI keeps one a branch."""
        return str(self.folder if self.file.name == FILE else self.file)

    @property
    def is_of_this_machine(self) -> bool:
        return self.session.header.get("host") == platform.node()

    def tuning_of(self, cell: Cell) -> TunedLoad | None:
        """Return how a cell's performance run was tuned; None where nobody knows.

        Another machine's tuning says nothing here.
        """
        if not self.is_of_this_machine:
            return None
        mode = Mode.PERFORMANCE.value
        folder = logs_folder(self.folder, cell, mode)
        row = cell.model, cell.scenario.value, cell.engine, mode
        for one in self._find(row):
            # An item may have run twice: its verdict is the second run's.
            if (name := Path(one.folder).name).startswith(mode):
                folder = folder.with_name(name)
        try:
            return saved.read(folder)
        except (OSError, ValueError):
            return None

    def compare(self, verdict: Verdict) -> CellComparison:
        """Return how one performance run differs from the earlier ones of its cell."""
        key = verdict.benchmark, verdict.scenario, verdict.engine, verdict.mode
        return compare_runs(self._find(key), [verdict])

    def _find(self, key: tuple[str, str, str, str]) -> list[Verdict]:
        """Return its verdicts of a benchmark, scenario, engine and mode."""
        return [
            one
            for one in self.session.verdicts_to_compare
            if (one.benchmark, one.scenario, one.engine, one.mode) == key
        ]

    def compare_all(self, session: SessionResults) -> tuple[CellComparison, ...]:
        """Return the comparison of each cell of a session."""
        return compare_sessions(self.session, session)

    def describe(self) -> str:
        """Return where it is and what it was of, in a line."""
        header = self.session.header
        commit = str(header.get("commit") or "")[:12]
        words = [self.shown, str(header.get("started", ""))[:19]]
        words += [f"commit {commit}"] * bool(commit)
        words += [f"on {header.get('host')}"] * (not self.is_of_this_machine)
        words += ["partial: it did not end"] * self.session.is_torn
        if self.is_of_this_machine and not any(
            self.folder.glob(f"logs/*/*/{saved.FILE}")
        ):
            words.append(f"without its logs/*/*/{saved.FILE}: loads are probed anew")
        return ", ".join(filter(None, words))


def _list_saved(folder: Path) -> str:
    names = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if names:
        return f"a saved session: {', '.join(names)}"
    return f"a session saved with --mlperf-save ({folder} has none)"


def save_session(own: Path, name: str) -> Path:
    """Keep a finished session under a name: its results and its runs' tuning.

    Returns the folder, in place of the session that had the name before. LoadGen's logs
    stay where they are. Raises ``OSError``.
    """
    root = own.parent / SAVED
    root.mkdir(exist_ok=True)
    # Whoever reads the name meanwhile finds the old session, or for a moment none.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
        whole, old = Path(scratch, "new"), Path(scratch, "old")
        whole.mkdir()
        shutil.copy2(own / FILE, whole)
        for tuning in own.glob(f"logs/*/*/{saved.FILE}"):
            target = whole / tuning.relative_to(own)
            target.parent.mkdir(parents=True)
            shutil.copy2(tuning, target)
        if (root / name).exists():
            (root / name).rename(old)
        whole.rename(root / name)
    return root / name


def find_latest(own: Path) -> Path:
    """Return the newest session's folder beside one; ``ValueError`` for none."""
    found = [p.parent for p in own.parent.glob(f"*/{FILE}")]
    others = {p.resolve() for p in found} - {own.resolve()}
    if not others:
        raise ValueError(
            f"--mlperf-compare {LATEST}: {own.parent} has no earlier session; run one "
            "without this option first"
        )
    return max(others, key=lambda folder: _find_start(folder / FILE))


def _find_start(file: Path) -> tuple[float, int]:
    """Return when a session started, by its header; of equal ones, files' times.

    Files that came back from a CI's store have times of their own.
    """
    changed = file.stat().st_mtime_ns
    try:
        with file.open(encoding="utf-8") as lines:
            started = datetime.fromisoformat(json.loads(next(lines))["started"])
        return started.timestamp(), changed
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return changed / 1e9, changed
