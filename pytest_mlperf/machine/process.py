"""A process of ours that measures: started fresh, watched, ended, asked what it met.

Used for a device's runner by pytest, and for the device processes by a runner that has
several of them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

STACK_LINES = 60
OUTPUT_LINES = 15
PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


class Process:
    """A child interpreter that runs one of our modules, and the pipe to it.

    The module gets as arguments: its end of the pipe, the file for its stacks, and
    ``more``.
    """

    def __init__(
        self,
        module: str,
        *,
        stacks: Path,
        log: Path,
        more: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        own_group: bool = True,
    ) -> None:
        ours, theirs = Pipe()
        self.connection: Connection = ours
        self.stacks_path, self.log = stacks, log
        self._own_group = own_group
        self._peak_kib = 0
        # The child finds what this process can import (an engine in development).
        paths = os.pathsep.join(p for p in sys.path if p)
        # -P: a user's queue.py in the working directory is not the library's.
        command = [sys.executable, "-P", "-m", module]
        command += [str(theirs.fileno()), str(stacks), *more]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {}), "PYTHONPATH": paths},
                # A group of its own: Ctrl-C reaches pytest alone, and ending the
                # process ends what it started.
                start_new_session=own_group,
            )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def gone(self) -> bool:
        """True once the process has ended."""
        return self._process.poll() is not None

    def wait(self, seconds: float) -> bool:
        """Give the process time to end; return whether it did."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)
        return self.gone

    def close(self, seconds: float = 10) -> None:
        """End the process gently: it exits when its pipe closes."""
        self.connection.close()
        if not self.wait(seconds):
            self.kill()

    def kill(self) -> None:
        """End the process, and in a group of its own whatever it started."""
        with suppress(ProcessLookupError):
            if self._own_group:
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        self.connection.close()

    def note_memory(self) -> None:
        """Remember how much memory the process had at most."""
        with suppress(OSError, StopIteration):
            text = Path(f"/proc/{self.pid}/status").read_text()
            line = next(x for x in text.splitlines() if x.startswith("VmHWM"))
            self._peak_kib = int(line.split()[1])

    def ending(self) -> str:
        """Return how the process ended, in words that follow its name."""
        code = self._process.wait()
        if code >= 0:
            return f"exited with status {code} and sent no reason"
        return f"was ended by {signal.Signals(-code).name}{self._hint(-code)}"

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

    def last_words(self) -> str:
        """Return the end of what this process and its libraries printed."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        if not lines:
            return ""
        head = f"\noutput of the runner ({self.log}):"
        return "\n".join([head, *lines[-OUTPUT_LINES:]])

    def stacks(self) -> str:
        """Return the stacks that were dumped: on request, or by a crash."""
        return read_stacks(self.stacks_path)


def dump_stacks(pid: int, path: Path) -> str:
    """Ask a process for the stacks of its threads; empty where it does not answer.

    The answer comes from a handler in C, which works while an engine holds the GIL.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and not read_stacks(path):
        time.sleep(0.05)
    time.sleep(0.1)
    return read_stacks(path)


def read_stacks(path: Path) -> str:
    """Return the first lines of a file of stacks; empty where there is none."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[:STACK_LINES])


def settle_in() -> None:
    """Begin life as such a process: whose signals it heeds, and when it ends."""
    # Ctrl-C is the pytest process's business: it ends us, and keeps what is there.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    with suppress(OSError):
        # When memory runs out, the kernel is to take this process, not pytest.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def die_with_parent() -> None:
    """Ask Linux to end this process when the thread that started it is gone.

    The heartbeat notices that too, but not while an engine keeps the GIL.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
