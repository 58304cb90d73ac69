"""How what runs in a runner reports to the pytest process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any
from typing import NoReturn

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.core.error_text import describe_error
from pytest_mlperf.core.error_text import format_traceback
from pytest_mlperf.core.error_text import read_text
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.errors import WrongFiles
from pytest_mlperf.core.errors import describe_full_disk
from pytest_mlperf.core.redaction import redact_values
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.machine.message_pipe import MessagePipe
from pytest_mlperf.runner.messages import DeviceLost
from pytest_mlperf.runner.messages import DeviceStatus
from pytest_mlperf.runner.messages import Heartbeat
from pytest_mlperf.runner.messages import Message
from pytest_mlperf.runner.messages import RunError
from pytest_mlperf.runner.messages import RunnerCommand
from pytest_mlperf.runner.service_secrets import hide_secrets
from pytest_mlperf.sut.protocol import Counted
from pytest_mlperf.sut.protocol import Pace

BEAT_S = 0.25
MOST_TEXT = 100_000
"""Characters of any text in a message."""
FAILED = 70
"""Exit status after a ``RunError`` was sent."""
ELSEWHERE = (RequestFailed, StoreFailed)
"""A server or a database failed: its name says more than our stack."""
HARMLESS = (BuildFailed, RunRefused, WrongFiles)
"""Errors whose text says it all; LoadGen has not started, so the child lives on."""


class Channel:
    """The child's end of the pipe, with the heartbeat: what a run tells its parent."""

    def __init__(self, pipe: MessagePipe) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._phase = ""
        self._entered = time.monotonic()
        self._marks = 0
        self._beats_s = 0.0
        """CPU seconds of the heartbeats."""
        self._sut: Counted | None = None
        self._first_query = self._measured_s = 0.0
        self._is_measuring = False
        self._total: int | None = None
        self._expected_s: float | None = None
        self._pace = Pace()
        self._devices: Callable[[], tuple[DeviceStatus, ...]] = tuple
        threading.Thread(target=self._keep_beating, daemon=True).start()

    def rest(self) -> None:
        """Beat no more: a beat after a reply would open the next command."""
        with self._lock:
            self._phase = ""

    def receive(self) -> RunnerCommand[Any] | None:
        """Return the next command; None when the pytest process is done with us."""
        try:
            command: RunnerCommand[Any] | None = self._pipe.receive()
        except EOFError:
            return None
        if command is not None and (service := command.task.service):
            hide_secrets(service)
        return command

    def send(self, message: Message) -> None:
        """Send a message, or end the process when nobody is there to read it."""
        with self._lock:
            self._put(message)

    def _put(self, message: Message) -> None:
        try:
            self._pipe.send(redact_values(message, MOST_TEXT))
        except OSError:
            # The pytest process is gone, and LoadGen cannot be stopped otherwise.
            os._exit(FAILED)

    def enter(self, phase: str) -> None:
        """Begin a phase; the parent learns at once."""
        self._phase, self._entered, self._marks = phase, time.monotonic(), 0
        self._send_beat()

    def watch(
        self,
        sut: Counted | None,
        total: int | None = None,
        expected_s: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Report the counters of ``sut``, and LoadGen's own work, from now on."""
        self._sut, self._total, self._expected_s = sut, total, expected_s
        self._first_query = self._measured_s = 0.0
        self._is_measuring = False
        self._pace = pace or Pace()

    def watch_devices(self, devices: Callable[[], tuple[DeviceStatus, ...]]) -> None:
        """Report how each device of a run over several is doing from now on."""
        self._devices = devices

    def beat(self) -> None:
        """Show life between the steps of a phase that issues nothing."""
        self._marks += 1

    def fail(self, error: BaseException) -> NoReturn:
        """Report an exception and end the process; any thread may call this."""
        text = format_traceback(error)
        cause = describe_full_disk(error) or describe_cause(error)
        if isinstance(error, ELSEWHERE) or describe_full_disk(error):
            text = ""  # it is not this program's doing
        if isinstance(error, DeviceLost):
            text = error.last_words
        self.send(RunError(self._phase, cause, text))
        os._exit(FAILED)

    def report(self, error: BaseException) -> None:
        """Report an exception that leaves the process usable."""
        phase = self._phase
        self.rest()
        self.send(RunError(phase, describe_cause(error), is_fatal=False))

    def _follow_loadgen(self) -> None:
        # Before its first query LoadGen loads samples and makes its schedule, half a
        # minute for tens of millions of queries; after the last answer it sorts
        # latencies and writes its logs.
        sut = self._sut
        is_begun = sut is not None and sut.issued > 0
        if is_begun and not self._first_query:
            # Seen now; it was at any time since the last beat.
            self._first_query = time.monotonic() - BEAT_S / 2
        if self._is_measuring or not self._measured_s:
            self._measured_s = time.monotonic() - self._first_query if is_begun else 0.0
        self._is_measuring = bool(
            sut and is_begun and not (sut.is_flushed and sut.completed >= sut.issued)
        )

    def _send_beat(self) -> None:
        with self._lock:
            if not self._phase:
                return
            self._follow_loadgen()
            sut, total = self._sut, self._total
            completed = sut.completed if sut else 0
            self._put(
                Heartbeat(
                    phase=self._phase,
                    issued=sut.issued if sut else 0,
                    completed=completed,
                    total=total,
                    work_share=self._pace.share_work(completed / total)
                    if total
                    else None,
                    elapsed_s=time.monotonic() - self._entered,
                    expected_s=self._expected_s,
                    marks=self._marks + (sut.pulse if sut else 0),
                    devices=self._devices(),
                    work=self._pace.count_work(),
                    longest_rest_s=self._pace.longest_rest_s,
                    cpu_s=read_cpu_s() - self._beats_s,
                    latencies=self._pace.read_latencies(),
                    is_measuring=self._is_measuring,
                    measured_s=self._measured_s,
                )
            )

    def _keep_beating(self) -> None:
        while True:
            time.sleep(BEAT_S)
            self._send_beat()
            self._beats_s = time.thread_time()


def read_cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


def describe_cause(error: BaseException) -> str:
    """Return type and text of an exception; the text alone where it is ours."""
    if isinstance(error, (*HARMLESS, *ELSEWHERE, DeviceLost)):
        return read_text(error)
    return describe_error(error)
