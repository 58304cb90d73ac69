"""What a run is doing now, on one line that is gone when pytest writes.

The line is drawn on a copy of the terminal's file descriptor taken before pytest
captures output. Where pytest stands in the middle of a line, the live line is drawn
below it and the cursor goes back up when it is erased.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TextIO

from pytest_mlperf.core.whole_file import write_whole

PLAIN_S = 60.0
"""Without a terminal, a line is printed this often: a log shows life."""
ASKED_S = 10.0
"""The same where progress was asked for."""
LEAST_NAME = 14
"""Columns of an item's name that make room for nothing."""
DRAW_S = 0.1
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """One heartbeat of a run."""

    cell: str
    """``bert-99-server-onnxruntime``."""
    mode: str
    phase: str
    """``build``, ``probe``, ``warm-up``, ``run``, ``judge`` ..."""
    issued: int = 0
    """Samples, as in all counts here."""
    completed: int = 0
    total: int | None = None
    """Samples of the whole run, where that is known beforehand."""
    work_share: float | None = None
    """Of the whole run's work, what is completed: a long sample counts for more."""
    rate: float = 0.0
    """Completed a second."""
    elapsed_s: float = 0.0
    """Of this phase."""
    expected_s: float | None = None
    """Of this phase."""
    latency: str = ""
    """Percentile so far and its limit: ``p99 12.3 of 15 ms``."""
    loss: str = ""
    """Why the run cannot become VALID any more."""
    again: str = ""
    """What was changed after an INVALID run, which this one follows."""
    session_left_s: float | None = None
    """Until all items have ended, about; None where nobody knows."""

    @property
    def left_s(self) -> float | None:
        """Seconds to go; None when nobody can know.

        By what is still to do, where that is known: a machine that is slower than
        expected takes longer. A run that goes on beyond its time says nothing.
        """
        if self.total and self.completed and self.rate > 0:
            done = self.work_share * self.total if self.work_share else self.completed
            # The rate of samples like those to come: long ones may have come first.
            rate = self.rate * done / self.completed
            left = max(0.0, (self.total - done) / rate)
            return left if left < math.inf else None
        if self.expected_s is not None and self.expected_s > self.elapsed_s:
            return self.expected_s - self.elapsed_s
        return None


def format_clock(seconds: float) -> str:
    """Return ``0:26``, ``10:00`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe_progress(progress: Progress, prefix: str, width: int) -> str:
    """Return one line of at most ``width`` columns, dropping the least useful part."""
    ran = f"{progress.phase} {progress.elapsed_s:,.0f}"
    if progress.expected_s is not None:
        ran += f"/{progress.expected_s:,.0f}"
    done = f"completed {progress.completed:,}"
    if progress.total:
        done += f" of {progress.total:,}"
    busy = progress.issued > 0 or progress.completed > 0
    name = f"{prefix} {progress.cell} {progress.mode}".strip()
    name += ", 2nd run" * bool(progress.again)
    # Text and how dearly it is kept; the lowest goes first.
    parts = [
        (name, 9),
        (f"{ran} s", 5),
        (f"issued {progress.issued:,}" if busy else "", 1),
        (done if busy else "", 2),
        (f"{_rate(progress.rate)}/s" if busy else "", 3),
        (progress.latency, 4),
        (_describe_left(progress), 4),
    ]
    kept = [part for part in parts if part[0]]
    counts = [part for part in kept if part[1] <= 2]  # which go before the name is cut
    while len(kept) > 1 and (over := len(_join(kept)) - width) > 0:
        if not counts and len(name) - over >= LEAST_NAME:
            return _join([(f"{name[: len(name) - over - 2]}..", 9), *kept[1:]])
        lowest = min(kept, key=lambda part: part[1])
        kept.remove(lowest)
        counts = [part for part in counts if part is not lowest]
    return _join(kept)[:width]


def _describe_left(progress: Progress) -> str:
    """Return what is left of the run, and of the session behind it."""
    left, whole = progress.left_s, progress.session_left_s
    texts = [] if left is None else [f"{format_clock(left)} left"]
    texts += [] if whole is None else [f"all {format_clock(whole)}"]
    return ", ".join(texts)


def _join(parts: Sequence[tuple[str, int]]) -> str:
    return "  ".join(text for text, _ in parts)


def describe_end(progress: Progress) -> str:
    """Return when a run is expected to end, by the clock; empty if nobody knows."""
    if progress.left_s is None:
        return ""
    return time.strftime(
        "  ends at %H:%M", time.localtime(time.time() + progress.left_s)
    )


def shorten_mode(mode: str) -> str:
    """Return a mode's first letters; a compliance test's name is short enough."""
    return mode if mode.isupper() else mode[:4]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:,.1f}"


def condense_progress(
    running: Sequence[tuple[str, Progress]], prefix: str, width: int
) -> str:
    """Return one line for several workers, each cut to its share of the width."""
    share = max(20, (width - len(prefix)) // max(1, len(running)) - 3)
    texts = []
    for worker, progress in running:
        name = f"{worker} {progress.cell} {shorten_mode(progress.mode)}"
        tail = f" {progress.elapsed_s:,.0f}"
        if progress.expected_s is not None:
            tail += f"/{progress.expected_s:,.0f}"
        tail += f" s {_rate(progress.rate)}/s" if progress.rate else " s"
        texts.append(name[: max(0, share - len(tail))] + tail)
    return " | ".join([f"{prefix} {texts[0]}", *texts[1:]])[:width] if texts else prefix


@dataclass(slots=True)
class ProgressLine:
    """One line on a stream: live on a terminal, a plain line now and then elsewhere."""

    stream: TextIO
    live: bool
    column: Callable[[], int] = lambda: 0
    """Where pytest's own cursor stands in its line."""
    prefix: str = ""
    period_s: float = ASKED_S
    """Between two plain lines."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _shown: bool = False
    _back: int = 0
    _below: bool = False
    _last: float = float("-inf")

    @property
    def width(self) -> int:
        """Columns a line may have; the last stays free, or terminals wrap."""
        if not self.live:
            return 200
        with contextlib.suppress(OSError, ValueError):
            return (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
        return 79

    def report(self, progress: Progress) -> None:
        """Show one run."""
        end = "" if self.live else describe_end(progress)
        self.show(lambda width: describe_progress(progress, self.prefix, width) + end)

    def show(self, text: Callable[[int], str]) -> None:
        """Draw the text for a width, unless the last drawing is too recent."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < (DRAW_S if self.live else self.period_s):
                return
            self._last = now
            line = text(self.width).encode("ascii", "replace").decode()
            if not self.live:
                self._write(f"{line}\n")
                return
            if not self._shown:
                self._back = self.column()
                self._below = self._back > 0
                self._shown = True
                line = ("\n" if self._below else "") + "\r\x1b[2K" + line
            else:
                line = "\r\x1b[2K" + line
            self._write(line)

    def erase(self) -> None:
        """Take the line away and put the cursor back where pytest left it."""
        with self._lock:
            if self._shown:
                up = f"\x1b[A\x1b[{self._back}C" if self._below else ""
                self._write("\r\x1b[2K" + up)
                self._shown = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Erase the line and keep other threads from drawing it."""
        with self._lock:
            self.erase()
            yield

    def close(self) -> None:
        """Erase the line and let go of the stream."""
        self.erase()
        with contextlib.suppress(OSError, ValueError):
            self.stream.close()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that went away
            self.stream.write(text)
            self.stream.flush()


def open_line(when: str, column: Callable[[], int]) -> ProgressLine | None:
    """Return the line for ``auto``, ``on`` or ``off``; None where there is to be none.

    Call it while pytest's capture is suspended, else the terminal is out of reach.
    """
    if when == "off":
        return None
    with contextlib.suppress(OSError):  # a descriptor that is closed
        for descriptor in (1, 2):
            if os.isatty(descriptor) and os.environ.get("TERM") != "dumb":
                return ProgressLine(
                    _copy(descriptor), True, column if descriptor == 1 else lambda: 0
                )
        if when == "on":
            return ProgressLine(_copy(2), live=False)
        # A short session says nothing: its results come soon enough.
        now = time.monotonic()
        return ProgressLine(_copy(2), live=False, period_s=PLAIN_S, _last=now)
    return None


def _copy(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", encoding="ascii", errors="replace")


@dataclass(slots=True)
class Mailbox:
    """A folder in which workers leave their last heartbeat for the controller."""

    folder: Path
    _last: float = float("-inf")

    def put(self, worker: str, progress: Progress) -> None:
        """Write a worker's heartbeat, whole or not at all, at most a few a second."""
        now = time.monotonic()
        if now - self._last < POLL_S / 2:
            return
        self._last = now
        # A display is no reason to fail a run.
        with contextlib.suppress(OSError):
            text = json.dumps(asdict(progress))
            write_whole(self.folder / f"{worker}.json", text)

    def clear(self, worker: str) -> None:
        """Take a worker's heartbeat away."""
        self._last = float("-inf")
        # Every item of every session of workers comes here.
        with contextlib.suppress(OSError):
            (self.folder / f"{worker}.json").unlink()

    def read(self) -> list[tuple[str, Progress]]:
        """Return the heartbeats that are there, by worker."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                text = path.read_text(encoding="utf-8")
                found.append((path.stem, Progress(**json.loads(text))))
        return found
