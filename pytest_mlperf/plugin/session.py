"""What the plugin knows during one pytest session, in every process of it.

Fixtures ask ``State.of(config)`` for options, device and reports folder, report
progress to it and attach verdicts through it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Cell
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure import cells
from pytest_mlperf.plugin import collection
from pytest_mlperf.plugin import submission as submission_hooks
from pytest_mlperf.reporting import junit
from pytest_mlperf.reporting import results
from pytest_mlperf.reporting.progress import POLL_S
from pytest_mlperf.reporting.progress import Mailbox
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.progress import ProgressLine
from pytest_mlperf.reporting.progress import condense
from pytest_mlperf.reporting.record import CELL_KEY
from pytest_mlperf.reporting.record import Record
from pytest_mlperf.reporting.record import is_crash
from pytest_mlperf.reporting.record import record_of

if TYPE_CHECKING:
    from pytest_mlperf.machine.system import System

GATE = ".gate"
"""Folder of the locks that keep a session's workers apart; gone when it ends."""
PACKAGES = ("pytest-mlperf", "mlcommons-loadgen", "onnxruntime", "numpy", "pytest")


@dataclass(slots=True)
class State:
    """One process's view of the session."""

    config: pytest.Config
    options: Options
    worker: str = ""
    """``gw0`` in an xdist worker, else empty."""
    device: int = 0
    """Index of the device that this process owns."""
    line: ProgressLine | None = None
    records: list[Record] = field(default_factory=list)
    total: int = 0
    """mlperf items this session is to run; 0 in everybody else's sessions."""
    deselected: bool = False
    """True when there were mlperf items and the selection left none."""
    unasked: bool = False
    """True when compliance tests were left out, because no option asks for them."""
    alone: bool = False
    """True when there was nothing else."""
    following: pytest.Item | None = None
    """What this process runs after the item at hand."""
    interrupted: bool = False
    header: list[str] = field(default_factory=list)
    """What runs, once that is known."""
    ending: list[str] = field(default_factory=list)
    """What became of the submission."""
    _system: System | None = None
    _folder: Path | None = None
    _started: int = 0
    _phases: dict[str, list[pytest.TestReport]] = field(default_factory=dict)
    _writer: results.Writer | None = None
    _mailbox: Mailbox | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, config: pytest.Config) -> State:
        """Return the session's state."""
        return config.stash[KEY]

    @classmethod
    def start(cls, config: pytest.Config) -> State:
        """Make the state of this process and keep it in the config's stash."""
        state = cls(config, Options.from_config(config))
        given: dict[str, Any] = getattr(config, "workerinput", {})
        if given:
            state.worker = given["workerid"]
            state.device = given.get("mlperf_device", 0)
        if "mlperf_reports" in given:  # not where the controller has no plugin
            state._folder = Path(given["mlperf_reports"])
            state._mailbox = Mailbox(state._folder / ".progress")
        config.stash[KEY] = state
        return state

    @property
    def reports(self) -> Path:
        """The session's reports folder, which exists while mlperf items run."""
        return self.planned()

    def planned(self) -> Path:
        """Return the folder without making it: most sessions never need it."""
        if self._folder is None:
            self._folder = results.plan(self.options.reports, datetime.now())
        return self._folder

    @property
    def system(self) -> System:
        """The machine; ``UsageError`` for a bad system file or name."""
        from pytest_mlperf.machine.system import SystemFileError
        from pytest_mlperf.machine.system import detect

        if self._system is None:
            try:
                found = detect(self.options.system, rootdir=self.config.rootpath)
                engines = {*map(registry.short_name, self.options.engine)}
                engines |= {*registry.names("engine"), *registry.names("service")}
                found.server.check(registry.names("benchmark"))
                found.tuning.check(registry.names("benchmark"), engines)
                self._system = found
            except (SystemFileError, ValueError) as error:
                raise pytest.UsageError(str(error)) from None
        return self._system

    def begin(self, items: Sequence[tuple[Cell, str]], workers: int = 1) -> None:
        """Make the reports folder and the results file: these items are to run.

        An item is its cell and its mode. Raises ``UsageError`` when the folder cannot
        be written.
        """
        from pytest_mlperf.reporting import header

        cells = [cell for cell, _ in items]
        self.total = len(cells)
        folder = self.planned()
        self._refuse_too_many_devices()
        if self.options.submission:
            submission_hooks.refuse(self, cells)
        first_line = {
            "started": datetime.now().astimezone().isoformat(),
            "args": [str(arg) for arg in self.config.invocation_params.args],
            "options": self.options.as_dict(), "items": self.total,
            "rounds": sorted({cell.round for cell in cells}),
            "versions": results.versions(PACKAGES),
            "system": {"name": self.system.name, "summary": self.system.summary},
        }  # fmt: skip
        writer = results.Writer(folder / results.FILE)
        try:
            results.create(folder)
            writer.open(first_line)
        except OSError as error:
            raise pytest.UsageError(
                f"the reports folder {folder} cannot be made: {error.strerror}; "
                "results would be lost; name a folder you can write to with "
                "--mlperf-reports DIR"
            ) from None
        self._writer = writer
        self.header = header.lines(
            cells, self.options, self.system.summary, self._short(folder),
            notes=self.system.notes,
            at_least_s=header.at_least_s(items, self.options, workers),
        )  # fmt: skip

    def _refuse_too_many_devices(self) -> None:
        """Raise ``UsageError`` where no item can have the devices that all are to."""
        from pytest_mlperf.core.errors import Refused
        from pytest_mlperf.measure.placement import slice_of

        try:
            slice_of(self, self.options.devices_per_item or 1)
        except Refused as error:
            raise pytest.UsageError(str(error)) from None

    def watch_workers(self) -> None:
        """Show what xdist's workers report until the session ends."""
        line = self.line
        if line is None:
            return
        mailbox = self._mailbox = Mailbox(self.planned() / ".progress")
        with contextlib.suppress(OSError):  # then there is nothing to read either
            mailbox.folder.mkdir()

        def poll() -> None:
            while not self._stop.wait(POLL_S):
                if running := mailbox.read():
                    prefix = f"[{len(self.records)}/{self.total}]"
                    line.show(partial(condense, running, prefix))

        threading.Thread(target=poll, name="mlperf-progress", daemon=True).start()

    def enter(self, item: pytest.Item) -> None:
        """Note which cell an item runs before anything can go wrong in it."""
        cell = collection.cell_of(item)
        if cell is None:
            return
        self._started += 1
        if self.line:
            self.line.prefix = f"[{self._started}/{self.total}]"
        facts = collection.describe(
            cell, collection.mode_of(item), collection.audit_of(item)
        )
        text = json.dumps(facts)
        item.user_properties.append((CELL_KEY, text))

    def leave(self) -> None:
        """Forget the progress of an item that ended."""
        if self.worker and self._mailbox:
            self._mailbox.clear(self.worker)

    def progress(self, heartbeat: Progress) -> None:
        """Show a heartbeat, or hand it to the controller that shows it."""
        # A display is no reason to fail a run.
        with contextlib.suppress(OSError, ValueError):
            if self.worker and self._mailbox:
                self._mailbox.put(self.worker, heartbeat)
            elif self.line:
                self.line.report(heartbeat)

    @staticmethod
    def attach(item: pytest.Item, verdict: Verdict) -> None:
        """Send the verdict with the item's report: table, results.jsonl and junit."""
        item.user_properties.extend(junit.properties(verdict))

    def take(self, report: pytest.TestReport) -> None:
        """Collect one phase of an item; its last phase makes the record."""
        if self.worker or not self.total:
            return
        self._phases.setdefault(report.nodeid, []).append(report)
        if report.when == "teardown" or is_crash(report):
            self._record(report.nodeid, ended=True)

    def _record(self, nodeid: str, *, ended: bool) -> None:
        record = record_of(self._phases.pop(nodeid), self._cell_of, ended=ended)
        if record is None or self._writer is None:
            return
        self.records.append(record)
        self._writer.add(record)

    def _cell_of(self, nodeid: str) -> dict[str, str]:
        """Return what a crashed worker's item ran, as far as its id tells."""
        cell = collection.parse(nodeid, cells.known(self.options))
        if cell is None:
            return {}
        mode, audit = collection.mode_named(nodeid), collection.audit_named(nodeid)
        return collection.describe(cell, mode, audit)

    def deselect(self) -> None:
        """Note that the selection left no item; a worker tells its controller."""
        self.deselected = True
        if self.worker:
            output: dict[str, Any] = self.config.workeroutput  # type: ignore[attr-defined]
            output["mlperf_deselected"] = True

    def print_header(self) -> None:
        """Write the header where pytest does not ask for it: under xdist."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter:
            # xdist's status line is rewritten in place and has no end yet.
            begun = self.config.get_terminal_writer().width_of_current_line
            for line in [""] * bool(begun) + self.header:
                reporter.write_line(line)

    def print_summary(self, reporter: pytest.TerminalReporter) -> None:
        """Write the table, or why there is none."""
        from pytest_mlperf.reporting import table

        writer = self.config.get_terminal_writer()
        verdicts = [v for record in self.records if (v := record.judged())]
        lines = table.render(
            table.rows(verdicts), writer.fullwidth, colour=writer.hasmarkup
        )
        if self._writer:
            note = " (partial: interrupted)" if self.interrupted else ""
            if self.records and all(r.outcome == "skipped" for r in self.records):
                lines.append(table.nothing(len(self.records)))
            lines.append(f"results: {self._short(self._writer.path)}{note}")
        elif self.deselected:
            wish = [*map(str, self.config.invocation_params.args)]
            wish += ["compliance"] * self.alone
            lines.append(collection.explain_empty(self.options, " ".join(wish)))
        lines += self.ending
        for line in lines:
            reporter.write_line(line)

    def _short(self, path: Path) -> str:
        """Return the path from where the user is, if it is below that folder."""
        here = self.config.invocation_params.dir
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def end(self, exitstatus: int) -> int:
        """Write what is known of unfinished items, the submission and the closing line.

        Returns the exit status, which a submission that is not good changes.
        """
        self._stop.set()
        for nodeid in list(self._phases):
            self._record(nodeid, ended=False)
        if self._writer and self.options.submission:
            good, self.ending = submission_hooks.submit(self)
            exitstatus = exitstatus or int(not good)
        if self._writer:
            self._writer.close(
                exitstatus=exitstatus,
                interrupted=self.interrupted,
                selected=self.total,
            )
        if not self.worker:
            shutil.rmtree(self.planned() / GATE, ignore_errors=True)
        if self._mailbox and not self.worker:
            shutil.rmtree(self._mailbox.folder, ignore_errors=True)
        return exitstatus


KEY = pytest.StashKey[State]()
