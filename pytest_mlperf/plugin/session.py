"""What the plugin knows during one pytest session, in every process of it.

Fixtures ask ``State.of(config)`` for options, device and reports folder, and attach
verdicts through it.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_mlperf.config.options import ROUND_S
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.redaction import redact
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import why_not_installed
from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin import home
from pytest_mlperf.plugin import submission
from pytest_mlperf.plugin.comparing import SessionComparison
from pytest_mlperf.plugin.machine import detect_machine
from pytest_mlperf.plugin.machine import refuse_impossible
from pytest_mlperf.plugin.machine import refuse_unknown_providers
from pytest_mlperf.plugin.options import is_given
from pytest_mlperf.plugin.options import read_options
from pytest_mlperf.plugin.other_plugins import add_suite_properties
from pytest_mlperf.plugin.other_plugins import describe_timeout
from pytest_mlperf.plugin.progress_display import ProgressDisplay
from pytest_mlperf.plugin.progress_display import print_below
from pytest_mlperf.plugin.records import describe_cell
from pytest_mlperf.plugin.records import note_cell
from pytest_mlperf.plugin.report import SessionReport
from pytest_mlperf.plugin.reports_folder import ReportsFolder
from pytest_mlperf.plugin.selection import Selection
from pytest_mlperf.plugin.selection import explain_empty
from pytest_mlperf.plugin.termination import TerminationSignals
from pytest_mlperf.reporting import junit
from pytest_mlperf.reporting import results
from pytest_mlperf.reporting.commit import find_commit

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System
    from pytest_mlperf.measure.session import MeasureSession

LOCKS = ".locks"
"""Folder of the locks that keep a session's workers apart; gone when it ends."""
PACKAGES = ("pytest-mlperf", "mlcommons-loadgen", "onnxruntime", "numpy", "pytest")


@dataclass(slots=True)
class State:
    """One process's view of the session."""

    config: pytest.Config
    options: Options
    display: ProgressDisplay = field(default_factory=ProgressDisplay)
    signals: TerminationSignals = field(default_factory=TerminationSignals)
    device: int = 0
    """Index of the device that this process owns."""
    total: int = 0
    """mlperf items this session is to run; 0 in everybody else's sessions."""
    selection: Selection = field(default_factory=Selection)
    following: pytest.Item | None = None
    """What this process runs after the item at hand."""
    interrupted: bool = False
    header: list[str] = field(default_factory=list)
    """What runs, once that is known."""
    submission_lines: list[str] = field(default_factory=list)
    """What became of the submission."""
    folder: ReportsFolder = field(init=False)
    report: SessionReport = field(init=False)
    comparison: SessionComparison = field(init=False)
    _system: System | None = None

    def __post_init__(self) -> None:
        options = self.options
        self.folder = ReportsFolder(options.reports)
        self.comparison = SessionComparison(options)
        describe = partial(describe_cell, options=options)
        self.report = SessionReport(describe, self._shorten, options.export)

    @classmethod
    def of(cls, config: pytest.Config) -> State:
        """Return the session's state."""
        return config.stash[KEY]

    @classmethod
    def start(cls, config: pytest.Config) -> State:
        """Make the state of this process and keep it in the config's stash."""
        state = cls(config, read_options(config))
        refuse_unknown_providers(state.options)
        given: dict[str, Any] = getattr(config, "workerinput", {})
        if given:
            state.display.worker = given["workerid"]
            state.device = given.get("mlperf_device", 0)
        if "mlperf_reports" in given:  # not where the controller has no plugin
            state.folder.known = Path(given["mlperf_reports"])
            state.display.join(state.reports)
        if state.options.submission:
            state.options = submission.choose_category(state.options, state.system)
        config.stash[KEY] = state
        return state

    @property
    def worker(self) -> str:
        """``gw0`` in an xdist worker, else empty."""
        return self.display.worker

    @property
    def reports(self) -> Path:
        """The session's reports folder, which exists while mlperf items run."""
        return self.folder.path

    @property
    def records(self) -> list[Record]:
        """What became of the items that have ended; on the controller."""
        return self.report.records

    @property
    def system(self) -> System:
        """The machine; ``UsageError`` for a bad system file or name."""
        if self._system is None:
            self._system = detect_machine(self.options, self.config.rootpath)
        return self._system

    @property
    def measuring(self) -> MeasureSession:
        """What a run needs of this process; ``UsageError`` as of ``system``."""
        from pytest_mlperf.measure.observe import find_observers
        from pytest_mlperf.measure.session import MeasureSession

        given: dict[str, Any] = getattr(self.config, "workerinput", {})
        session = str(self.reports.resolve())
        return MeasureSession(
            options=self.options,
            system=self.system,
            reports=self.reports,
            observers=find_observers(self.options, self.system, session),
            on_progress=self.display.show,
            baseline=self.comparison.find_baseline(self.reports),
            worker=self.device,
            workers=given.get("workercount", 1),
        )

    @property
    def command(self) -> list[str]:
        """What the user typed behind ``pytest``."""
        return [str(arg) for arg in self.config.invocation_params.args]

    def begin(self, items: Sequence[tuple[Cell, str]], workers: int = 1) -> None:
        """Make the reports folder and the results file: these items are to run.

        An item is its cell and its mode. Raises ``UsageError`` when the folder cannot
        be written.
        """
        from pytest_mlperf.reporting import header

        cells = [cell for cell, _ in items]
        self.total = len(cells)
        names_engine = is_given(self.config, "engine")
        refuse_impossible(self.measuring, cells, names_engine=names_engine)
        if self.options.submission:
            submission.refuse_hopeless(self.measuring, self.command, cells)
        self.signals.catch()  # from here there is something to close
        self.folder.claim()
        self.report.open(self.reports, facts := make_header(self, cells))
        add_suite_properties(self.config, facts)
        runnable = [one for one in items if not why_not_installed(one[0], self.options)]
        least_s = 0.0  # where fixtures alone are set up
        if not self.config.getoption("setuponly"):
            least_s = header.estimate_least_s(runnable, self.options, workers)
        each = [header.estimate_least_s([one], self.options) for one in items]
        self.display.least_s, longest_s = each, max(each, default=0.0)
        self.display.promised_s = min(self.options.min_duration_s or ROUND_S, ROUND_S)
        self.header = header.describe_session(
            cells, self.options, self.system.summary, self._shorten(self.reports),
            notes=[
                *self.system.notes, *describe_timeout(self.config, longest_s),
                *self.comparison.describe(self.reports, facts),
            ],
            least_s=least_s, is_verbose=is_verbose(self.config),
        )  # fmt: skip

    def watch_workers(self) -> None:
        """Write the header, for which pytest does not ask under xdist, and show what
        the workers report behind how many items have ended.
        """
        print_below(self.config, self.header)
        # Here nothing captures, and it is another thread that asks.
        self.display.announce = lambda text: print_below(self.config, [text])
        self.display.watch_workers(
            self.reports, lambda: f"[{len(self.records)}/{self.total}]"
        )

    def enter(self, item: pytest.Item) -> None:
        """Note which cell an item runs before anything can go wrong in it."""
        if (cell := collection.cell_of(item)) is None:
            return
        self.display.begin_item(self.total)
        note_cell(item, cell)

    @staticmethod
    def attach(item: pytest.Item, verdict: Verdict) -> None:
        """Send the verdict with the item's report: table, results.jsonl and junit."""
        item.user_properties.extend(junit.list_properties(verdict))

    def print_summary(self, reporter: pytest.TerminalReporter) -> None:
        """Write the table and what else was reported, or why there is nothing."""
        writer = self.config.get_terminal_writer()
        lines = [*self.report.summarise(writer.fullwidth, colour=writer.hasmarkup)]
        lines += home.explain_ids(self.config, self.records)
        if self.selection.is_empty and not self.report.is_open:
            lines.append(explain_nothing(self))
        for line in [*lines, *self.submission_lines]:
            reporter.write_line(redact(line))

    def _shorten(self, path: Path) -> str:
        """Return the path from where the user is, if it is below that folder."""
        here = self.config.invocation_params.dir
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def end(self, exitstatus: int) -> int:
        """Write what is known of unfinished items, the submission and the reports.

        Returns the exit status, which a bad submission or a failed reporter changes.
        """
        self.display.stop()
        self.report.add_unfinished()
        if self.report.has_stopped_early(exitstatus, self.total):
            self.interrupted = True
            exitstatus = exitstatus or pytest.ExitCode.INTERRUPTED
        if self.report.is_open and self.options.submission:
            good, self.submission_lines = submission.submit(
                self.measuring,
                self.command,
                self.records,
                interrupted=self.interrupted,
            )
            exitstatus = exitstatus or int(not good)
        exitstatus = self.report.close(
            exitstatus, interrupted=self.interrupted, selected=self.total
        )
        exitstatus = self.comparison.close(self.report, exitstatus)
        if not self.worker:
            shutil.rmtree(self.reports / LOCKS, ignore_errors=True)
            if not self.report.is_open:
                self.folder.remove_unused()
        return exitstatus


def is_verbose(config: pytest.Config) -> bool:
    """Return whether ``-v`` was typed; without a terminal pytest has no such option."""
    return bool(getattr(config.option, "verbose", 0) > 0)


def explain_nothing(state: State) -> str:
    """Return why a session that asked for mlperf items has none."""
    typed = state.command + ["compliance"] * state.selection.has_audits_alone
    options = state.config.option
    expression = f"{options.keyword} {options.markexpr}"
    names = state.selection.names
    return explain_empty(state.options, " ".join(typed), expression, names)


def preview(state: State, items: Sequence[tuple[Cell, str]]) -> list[str]:
    """Return what a session of these items would say first, which only collects them.

    An item is its cell and its mode.
    """
    from pytest_mlperf.reporting import header

    runnable = [one for one in items if not why_not_installed(one[0], state.options)]
    least_s = header.estimate_least_s(runnable, state.options)
    cells = [cell for cell, _ in items]
    lines = [header.describe_items(cells, least_s)]
    lines += header.list_rounds(cells) if is_verbose(state.config) else []
    if skipped := len(items) - len(runnable):
        lines.append(f"{skipped} of them skip: no installed package runs the benchmark")
    return [f"mlperf: {line}" for line in lines]


def make_header(state: State, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return what the first line of results.jsonl says of a session of these cells."""
    return {
        "started": datetime.now().astimezone().isoformat(),
        "args": state.command,
        "options": state.options.as_dict(), "items": state.total,
        "rounds": sorted({cell.round for cell in cells}),
        "versions": results.find_versions(PACKAGES),
        "host": platform.node(), "commit": find_commit(state.config.rootpath),
        "system": {"name": state.system.name, "summary": state.system.summary},
    }  # fmt: skip


KEY = pytest.StashKey[State]()
