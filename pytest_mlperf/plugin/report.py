"""What a session reports: results.jsonl as items end, everything else at its end."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.api.reporter import Reporter
from pytest_mlperf.core.session_results import INTERRUPTED
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import REPEATS
from pytest_mlperf.plugin.records import DescribeCell
from pytest_mlperf.plugin.records import RecordCollector
from pytest_mlperf.plugin.reports_folder import refusing_folder
from pytest_mlperf.reporting import results
from pytest_mlperf.reporting.formats import choose_exports
from pytest_mlperf.reporting.formats import load_export

if TYPE_CHECKING:
    from pytest_mlperf.core.comparison import CellComparison
    from pytest_mlperf.measure.baseline import Baseline

NOTHING_MEASURED = 6
"""Exit status of a session of mlperf items that were all skipped; pytest's own end at
5."""
NOT_ALL_MEASURED = 7
"""Exit status of a good session with --mlperf-require, of whose mlperf items some were
not measured."""


class SessionReport:
    """Collects the records of a session on its controller and runs the reporters.

    ``shorten`` returns a path as the terminal shows it, ``formats`` are those that the
    user named.
    """

    def __init__(
        self,
        describe_cell: DescribeCell,
        shorten: Callable[[Path], str],
        formats: Sequence[str] = (),
    ) -> None:
        self._collector = RecordCollector(describe_cell)
        self._shorten = shorten
        self._formats = formats
        self._writer: results.ResultsWriter | None = None
        self._notes: list[str] = []

    @property
    def is_open(self) -> bool:
        """True from the moment that mlperf items are about to run."""
        return self._writer is not None

    @property
    def records(self) -> list[Record]:
        """The records of the items that have ended."""
        return self._writer.records if self._writer else []

    def open(self, folder: Path, header: Mapping[str, Any]) -> None:
        """Make the results file in the session's folder; raises ``UsageError``."""
        writer = self._writer = results.ResultsWriter(folder / results.FILE)
        try:
            with refusing_folder(folder):
                writer.open(header)
        except BaseException:
            if not writer.path.exists():  # else SIGTERM came behind it: it is closed
                self._writer = None
            raise
        results.point_latest(folder)

    def begin_item(self, nodeid: str) -> None:
        """Note that an item begins."""
        self._collector.begin(nodeid)

    def take(self, report: pytest.TestReport) -> None:
        """Collect one phase of an item; its last phase makes the record."""
        record = self._collector.add(report) if self._writer else None
        if self._writer and record:
            self._writer.add(record)

    def has_measured_nothing(self, collected: int) -> bool:
        """Return whether all items of a session were ours, and were skipped."""
        outcomes = [record.outcome for record in self.records]
        return collected > 0 and outcomes == ["skipped"] * collected

    def has_measured_all(self) -> bool:
        """Return whether every item was measured; note those that were not.

        Where items run again (pytest-rerunfailures), the last attempt counts.
        """
        last = {one.nodeid: one for one in self.records}
        absent = [one for one in last.values() if not one.is_measured]
        if not absent:
            return True
        of = f"{len(absent)} of {len(last)} items"
        first = absent[0].reason.partition("\n")[0] or absent[0].outcome
        self._notes.append(
            f"mlperf: --mlperf-require: {of} were not measured, but all should be; "
            f"{absent[0].nodeid}: {first}"
        )
        return False

    def add_unfinished(self) -> None:
        """Record the items that have begun and will not end."""
        if self._writer:
            for record in self._collector.drain():
                self._writer.add(record)

    def has_stopped_early(self, exitstatus: int, selected: int) -> bool:
        """Return whether items did not run to their end, as the records have it.

        The exit status does not tell: pytest leaves it at 0 where a second Ctrl-C comes
        while it deals with the first. ``-x`` ends a session properly, with status 1.
        """
        unfinished = any(record.outcome == INTERRUPTED for record in self.records)
        is_short = len({record.nodeid for record in self.records}) < selected
        is_cut = is_short and exitstatus != pytest.ExitCode.TESTS_FAILED
        return self.is_open and (unfinished or is_cut)

    def close(self, exitstatus: int, *, interrupted: bool, selected: int) -> int:
        """Write the closing line, then run the reporters; return the exit status.

        The results are whole before anybody else's code runs. A reporter that fails
        loses none of them, but it makes the status of a good session 1, as lines do
        that could not be written.
        """
        if self._writer is None:
            return exitstatus
        session = self._writer.close(
            exitstatus=exitstatus, interrupted=interrupted, selected=selected
        )
        from pytest_mlperf.machine.log_file import close_logs

        close_logs(self._writer.path.parent)
        reporters = find_reporters(self._formats)
        written, failures = run_reporters(reporters, session, self._writer.path.parent)
        if lost := len(self._writer.pending):
            failures.append(
                f"results: {lost} line{'s' * (lost != 1)} could not be written to "
                f"{results.FILE}: {self._writer.problem}; the file is partial, the "
                "table has all of them: make room, or name another folder with "
                "--mlperf-reports DIR, and run again"
            )
        self._notes += [
            f"repeated: {one.benchmark} {one.scenario} on {one.engine}: {text}"
            for one in session.verdicts
            if (text := one.facts.get(REPEATS))
        ]
        self._notes += [f"report: {self._shorten(path)}" for path in written]
        self._notes += failures
        return exitstatus or int(bool(failures))

    def add_note(self, text: str) -> None:
        """Add a line below the table."""
        self._notes.append(text)

    def compare(self, baseline: Baseline) -> tuple[CellComparison, ...]:
        """Return how the session's cells differ from an earlier one's; note it."""
        if self._writer is None or self._writer.results is None:
            return ()
        found = baseline.compare_all(self._writer.results)
        self._notes += [f"compared: {one}" for one in found]
        return found

    def compare_official(self) -> None:
        """Note what share of the best published result each VALID run reaches."""
        if self._writer is None or self._writer.results is None:
            return
        from pytest_mlperf.core.published import describe_standing

        for one in self._writer.results.verdicts:
            if one.valid and one.mode == Mode.PERFORMANCE.value:
                name = f"{one.benchmark} {one.scenario} on {one.engine}"
                self._notes.append(f"compared: {name}: {describe_standing(one)}")

    def save(self, name: str) -> None:
        """Keep a session that ran to its end under a name, and note where."""
        if self._writer is None or self._writer.results is None:
            return
        if self._writer.results.is_interrupted or self._writer.pending:
            self._notes.append(f"not saved as {name}: the session is partial")
            return
        from pytest_mlperf.measure.baseline import save_session

        try:
            folder = save_session(self._writer.path.parent, name)
        except OSError as error:
            self._notes.append(
                f"not saved as {name}: {error}; make room, or copy the reports folder"
            )
            return
        self._notes.append(f"saved: {self._shorten(folder)} (--mlperf-compare={name})")

    def summarise(self, width: int, *, colour: bool) -> Iterator[str]:
        """Yield the table and the paths of the reports; nothing where no item ran."""
        from pytest_mlperf.reporting.table import make_table

        if self._writer is None or self._writer.results is None:
            return
        session = self._writer.results
        yield from make_table(session, width, colour=colour)
        note = " (partial: interrupted)" if session.is_interrupted else ""
        yield f"results: {self._shorten(self._writer.path)}{note}"
        yield from self._notes


def find_reporters(formats: Sequence[str]) -> dict[str, Callable[[], Reporter]]:
    """Return name -> loader of the formats and of the installed reporters."""
    found: dict[str, Callable[[], Reporter]] = {
        name: partial(load_export, name) for name in choose_exports(formats)
    }
    for name in registry.names("reporter"):
        found[name] = partial(registry.load, "reporter", name)
    return found


def run_reporters(
    reporters: Mapping[str, Callable[[], Reporter]],
    session: SessionResults,
    folder: Path,
) -> tuple[list[Path], list[str]]:
    """Run the reporters; return the paths written, and failures in words."""
    written: list[Path] = []
    failures: list[str] = []
    for name, load in reporters.items():
        try:
            path = load().write(session, folder)
            written += [Path(path)] if path is not None else []
        except Exception as error:  # noqa: BLE001 - whatever somebody's reporter raises
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            failures.append(f"report: {name} failed: {text}; {results.FILE} is whole")
    return written, failures
