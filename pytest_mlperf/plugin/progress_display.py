"""Shows what runs: on one live line, to which xdist's workers send by a mailbox."""

from __future__ import annotations

import contextlib
import shutil
import textwrap
import threading
import time
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.reporting.progress import POLL_S
from pytest_mlperf.reporting.progress import Mailbox
from pytest_mlperf.reporting.progress import Progress
from pytest_mlperf.reporting.progress import ProgressLine
from pytest_mlperf.reporting.progress import condense_progress
from pytest_mlperf.reporting.progress import format_clock
from pytest_mlperf.reporting.progress import open_line

LONGER = 1.2
"""A run that takes this much longer than the header promised is announced."""
MAILBOX = ".progress"
"""Folder of the workers' heartbeats in the reports folder; gone when it ends."""


@dataclass(slots=True)
class ProgressDisplay:
    """The line of one process, or a worker's way to the controller's."""

    worker: str = ""
    """``gw0`` in an xdist worker, else empty."""
    line: ProgressLine | None = None
    mailbox: Mailbox | None = None
    announce: Callable[[str], None] = lambda _: None
    """Prints a line, terminal or not."""
    promised_s: float = 0.0
    """That the header promised of each run, at least."""
    least_s: Sequence[float] = ()
    """What each item takes at least, in their order; of accuracy runs nobody knows."""
    _announced: set[tuple[str, ...]] = field(default_factory=set)
    _begun: int = 0
    _began: float = field(default_factory=time.monotonic)
    """When the first item began, and how long all before the one at hand took."""
    _spent_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def open(self, config: pytest.Config, when: str) -> None:
        """Open the line (``when``: auto, on or off) and keep it off pytest's output."""
        if self.worker or config.getoption("collectonly"):
            return
        if not config.pluginmanager.has_plugin("terminalreporter"):  # -p no:terminal
            return
        self.announce = partial(announce_below, config)
        writer = config.get_terminal_writer
        self.line = open_line(when, lambda: writer().width_of_current_line)
        if self.line:
            config.pluginmanager.register(LinePause(self.line), "mlperf-line-pause")

    def join(self, reports: Path) -> None:
        """Send this worker's heartbeats to the controller that has this folder."""
        self.mailbox = Mailbox(reports / MAILBOX)

    def watch_workers(self, reports: Path, count: Callable[[], str]) -> None:
        """Show what xdist's workers report until the session ends.

        ``count`` says how many items have ended: ``[3/8]``.
        """
        mailbox = self.mailbox = Mailbox(reports / MAILBOX)
        with contextlib.suppress(OSError):  # then there is nothing to read either
            mailbox.folder.mkdir()

        def poll() -> None:
            while not self._stop.wait(POLL_S):
                running = mailbox.read()
                for _, progress in running:
                    self._announce(progress)
                if running and self.line:
                    self.line.show(partial(condense_progress, running, count()))

        threading.Thread(target=poll, name="mlperf-progress", daemon=True).start()

    def begin_item(self, total: int) -> None:
        """Number the next item of so many on the line."""
        now = time.monotonic()
        self._began = self._began if self._begun else now
        self._spent_s = now - self._began
        self._begun += 1
        self._announced.clear()
        if self.line:
            self.line.prefix = f"[{self._begun}/{total}]"

    def end_item(self) -> None:
        """Forget the progress of an item that ended."""
        if self.worker and self.mailbox:
            self.mailbox.clear(self.worker)

    def show(self, heartbeat: Progress) -> None:
        """Show a heartbeat, or hand it to the controller that shows it."""
        # A display is no reason to fail a run.
        with contextlib.suppress(OSError, ValueError):
            if self.worker and self.mailbox:
                self.mailbox.put(self.worker, heartbeat)
                return
            self._announce(heartbeat)
            if self.line:
                whole = self.estimate_left_s(heartbeat)
                self.line.report(replace(heartbeat, session_left_s=whole))

    def estimate_left_s(self, heartbeat: Progress) -> float | None:
        """Return how long the session goes on, about; None on its last item.

        By what the items to come take at least, and how much more those took that have
        ended: their builds, probes and accuracy runs.
        """
        to_come = sum(self.least_s[self._begun :])
        if not to_come:
            return None
        ended = sum(self.least_s[: self._begun - 1])
        factor = max(1.0, self._spent_s / ended) if ended else 1.0
        return (heartbeat.left_s or 0.0) + factor * to_come

    def _announce(self, progress: Progress) -> None:
        """Print once that an item runs a second time, how long a run takes where the
        header promised less, and that it cannot become VALID.
        """
        item, expected_s = f"{progress.cell} {progress.mode}", progress.expected_s
        if progress.again:
            self._print_once(item, f"runs once more: {progress.again}")
            item += ", second run,"
        if expected_s is not None and expected_s > LONGER * self.promised_s:
            why = ""
            if progress.total:
                rate = progress.total / expected_s
                why = f": {progress.total:,} samples at {rate:.3g} a second"
            self._print_once(item, f"takes {format_clock(expected_s)} or so{why}")
        if progress.loss:
            self._print_once(item, f"cannot become VALID any more: {progress.loss}")

    def _print_once(self, item: str, text: str) -> None:
        key = item, text.partition(" ")[0]
        if key not in self._announced:
            self._announced.add(key)
            with self.line.paused() if self.line else contextlib.nullcontext():
                self.announce(f"mlperf: {item} {text}")

    def show_text(self, text: str) -> None:
        """Show a line of text that is no heartbeat."""
        if self.line:
            self.line.show(lambda width: text[:width])

    def stop(self) -> None:
        """Stop reading heartbeats and remove the mailbox; a worker's is not its own."""
        self._stop.set()
        if self.mailbox and not self.worker:
            shutil.rmtree(self.mailbox.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the terminal."""
        if self.line:
            self.line.close()


def print_below(config: pytest.Config, lines: Sequence[str]) -> None:
    """Write lines below the one that pytest has begun, where there is a terminal."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter:
        # xdist's status line is rewritten in place and has no end yet.
        begun = config.get_terminal_writer().width_of_current_line
        for line in [""] * bool(begun) + wrap_lines(config, lines):
            reporter.write_line(line)


def wrap_lines(config: pytest.Config, lines: Sequence[str]) -> list[str]:
    """Return lines that fit into the terminal, the rest of each below it; a file or a
    pipe gets them whole.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or not reporter.isatty:
        return [*lines]
    width = max(20, config.get_terminal_writer().fullwidth - 1)
    indent = " " * len("mlperf: ")
    wrapped = [
        textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)
        for line in lines
    ]
    return [part for parts in wrapped for part in parts]


def announce_below(config: pytest.Config, text: str) -> None:
    """Write a line while an item runs, and its output is captured."""
    capture = config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else None
    reporter = config.pluginmanager.getplugin("terminalreporter")
    with shown or contextlib.nullcontext():
        reporter.write_line(text)  # which ends the line that pytest has begun


class LinePause:
    """A plugin that takes the live line away while pytest itself writes."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def _pause(self) -> Generator[None, Any, Any]:
        with self._line.paused():
            return (yield)

    pytest_runtest_logstart = _pause
    pytest_runtest_logreport = _pause
    pytest_runtest_logfinish = _pause
    pytest_testnodedown = _pause
    pytest_keyboard_interrupt = _pause
    pytest_internalerror = _pause
    pytest_sessionfinish = _pause
    pytest_enter_pdb = _pause
