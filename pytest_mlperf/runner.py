"""The parent's end of a runner: starts the child, watches it, replaces it.

One runner per device. LoadGen hangs when a sample is never completed and takes the
process down on a bad id, so every such end is met here and becomes one ``RunFailed``
that says what happened and shows the child's stacks; the next job gets a fresh child.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from pytest_mlperf.job import Beat
from pytest_mlperf.job import Done
from pytest_mlperf.job import Failure
from pytest_mlperf.job import Job
from pytest_mlperf.job import Message
from pytest_mlperf.job import Unmet
from pytest_mlperf.watchdog import Watch
from pytest_mlperf.watchdog import progress_text
from pytest_mlperf.workload import Missing

POLL_S = 0.2
STACK_LINES = 60
OUTPUT_LINES = 15
PARTIAL = "PARTIAL.json"
"""Written into the folder of a run that did not end by itself."""


class RunFailed(Exception):
    """A run that did not end well: cause, stacks and where the logs are."""

    def __init__(
        self, cause: str, *, folder: str, last: Beat | None = None, stacks: str = ""
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.folder = folder
        self.last = last
        self.stacks = stacks

    def __str__(self) -> str:
        lines = [self.cause]
        if self.last is not None:
            lines.append(f"last sign of life: {progress_text(self.last)}")
        lines.append(f"logs: {self.folder}")
        if self.stacks:
            lines += ["", "stacks of the runner:", self.stacks]
        return "\n".join(lines)


class Runner:
    """A handle on the child process of one device."""

    def __init__(
        self,
        *,
        stall_s: float = 120.0,
        build_s: float = 3600.0,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stall_s = stall_s
        self._build_s = build_s
        self._log = log
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._scratch: Path | None = None
        self._peak_kib = 0
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The child's process id while one is alive."""
        return self._process.pid if self._process else None

    def run(self, job: Job, on_beat: Callable[[Beat], None] = lambda _: None) -> Done:
        """Run a job to its end.

        Raises ``Missing`` (skip), ``RunFailed`` (cause and stacks). On Ctrl-C, and
        whatever else ``on_beat`` raises, the child is ended, what LoadGen wrote so far
        is marked partial, and the exception goes on.
        """
        last: Beat | None = None
        watch = Watch(self._stall_s, self._build_s)
        with suppress(OSError):  # of an earlier attempt at the same item
            (Path(job.folder) / PARTIAL).unlink()
        idle = self._process is not None
        try:
            connection = self._send(job)
            while True:
                message = self._next(connection)
                if isinstance(message, Beat):
                    last = message
                    watch.see(message)
                    on_beat(message)
                elif isinstance(message, Done):
                    return message
                elif isinstance(message, Unmet):
                    raise Missing(message.reason)
                elif isinstance(message, Failure):
                    raise self._failed(message, job, last)
                elif self._process is None or self._process.poll() is not None:
                    if not idle or last is not None:
                        raise self._died(job, last)
                    # It died while it waited for a job: not this job's doing.
                    idle = False
                    self.kill()
                    connection = self._send(job)
                elif complaint := watch.complaint():
                    stacks = self._dump_stacks()
                    self.kill()
                    raise RunFailed(
                        complaint, folder=job.folder, last=last, stacks=stacks
                    )
        except Missing:
            raise
        except BaseException as error:
            self._mark_partial(job, last, error)
            if not isinstance(error, RunFailed):
                # Ctrl-C, a test's timeout: the child is still at work on this job,
                # and its answer would be taken for the next one's.
                self.kill()
            raise

    def close(self) -> None:
        """End the child gently: it exits when its pipe closes."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def kill(self) -> None:
        """End the child and whatever it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = self._connection = self._scratch = None

    def _send(self, job: Job) -> Connection:
        if self._process is not None and self._process.poll() is not None:
            self._forget()
        connection = self._connection or self._start()
        try:
            connection.send(job)
        except OSError:  # it died since we looked
            self.kill()
            connection = self._start()
            connection.send(job)
        return connection

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        self._scratch = Path(tempfile.mkdtemp(prefix="pytest-mlperf-runner-"))
        # The child finds what this process can import (an engine in development).
        paths = os.pathsep.join(p for p in sys.path if p)
        # -P: a user's queue.py in the working directory is not the library's.
        command = [sys.executable, "-P", "-m", "pytest_mlperf.child"]
        command += [str(theirs.fileno()), str(self._stacks)]
        with (self._log or self._scratch / "runner.log").open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **self._environment,
                    "PYTHONPATH": paths,
                    # What a killed child leaves behind goes with our own folder.
                    "TMPDIR": str(self._scratch),
                },
                # A group of its own: Ctrl-C reaches pytest alone, and ending the
                # runner ends what it started.
                start_new_session=True,
            )
        theirs.close()
        self._connection = ours
        self._peak_kib = 0
        return ours

    @property
    def _stacks(self) -> Path:
        assert self._scratch is not None
        return self._scratch / "stacks.txt"

    def _next(self, connection: Connection) -> Message | None:
        """Return the next message; None when there is none for now."""
        self._note_memory()
        try:
            if connection.poll(POLL_S):
                message: Message = connection.recv()
                return message
        except (EOFError, OSError):
            # The child is about to be gone; give the kernel time to say how.
            assert self._process is not None
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        return None

    def _note_memory(self) -> None:
        with suppress(OSError, StopIteration):
            text = Path(f"/proc/{self.pid}/status").read_text()
            line = next(x for x in text.splitlines() if x.startswith("VmHWM"))
            self._peak_kib = int(line.split()[1])

    def _failed(self, failure: Failure, job: Job, last: Beat | None) -> RunFailed:
        if failure.fatal:
            self.kill()
        cause = f"the run failed in phase {failure.phase or 'start'}: {failure.cause}"
        return RunFailed(cause, folder=job.folder, last=last, stacks=failure.traceback)

    def _died(self, job: Job, last: Beat | None) -> RunFailed:
        assert self._process is not None
        code = self._process.returncode
        cause = f"the runner exited with status {code} and sent no reason"
        if code < 0:
            name = signal.Signals(-code).name
            cause = f"the runner was ended by {name}{self._hint(-code)}"
        stacks = self._read_stacks() + self._last_words()
        self.kill()
        return RunFailed(cause, folder=job.folder, last=last, stacks=stacks)

    def _hint(self, number: int) -> str:
        if number == signal.SIGKILL:
            return (
                ": the kernel does this when memory runs out (its peak was "
                f"{self._peak_kib / 2**20:.2f} GiB); try fewer --mlperf-streams, a "
                "smaller --mlperf-batch or a shorter run"
            )
        if number == signal.SIGSEGV:
            return (
                ": the engine crashed, or a sample was completed twice or under an id "
                "that LoadGen never gave"
            )
        if number == signal.SIGABRT:
            return (
                ": a library gave up; LoadGen does when its logs cannot be written or "
                "after a callback raised"
            )
        return ""

    def _last_words(self) -> str:
        """Return the end of what this child and its libraries printed."""
        assert self._scratch is not None
        path = self._log or self._scratch / "runner.log"
        try:
            with path.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        if not lines:
            return ""
        return "\n".join([f"\noutput of the runner ({path}):", *lines[-OUTPUT_LINES:]])

    def _dump_stacks(self) -> str:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and not self._read_stacks():
            time.sleep(0.05)
        time.sleep(0.1)
        return self._read_stacks()

    def _read_stacks(self) -> str:
        try:
            lines = self._stacks.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[:STACK_LINES])

    @staticmethod
    def _mark_partial(job: Job, last: Beat | None, error: BaseException) -> None:
        cause = f"interrupted by {type(error).__name__}: {error}".rstrip(": ")
        if isinstance(error, RunFailed):
            cause = error.cause
        elif isinstance(error, KeyboardInterrupt):
            cause = "interrupted by the user"
        note = {
            "partial": True,
            "cause": cause,
            "last": progress_text(last) if last else None,
        }
        with suppress(OSError):
            Path(job.folder).mkdir(parents=True, exist_ok=True)
            text = json.dumps(note, indent=1) + "\n"
            (Path(job.folder) / PARTIAL).write_text(text, encoding="utf-8")
