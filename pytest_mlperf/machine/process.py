"""A measuring child process: starting, watching and ending it.

pytest uses it for a device's runner, and a runner of several devices uses it for the
device processes.
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
from pathlib import Path

from pytest_mlperf.core.redaction import redact
from pytest_mlperf.machine.guarded_process import GuardedProcess
from pytest_mlperf.machine.log_file import bound_log
from pytest_mlperf.machine.log_file import cut_line
from pytest_mlperf.machine.log_file import read_last_lines
from pytest_mlperf.machine.message_pipe import MessagePipe

STACK_LINES = 60
STACK_BYTES = 1 << 16
GONE_S = 30.0
"""A process that has closed its pipe may take this long to be gone: one that crashes
writes a core file, and large memory is freed slowly beside other programs."""
PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


class Process:
    """A child interpreter that runs a module of this package, and the pipe to it.

    The module's arguments are its end of the pipe, the file for its stacks, and
    ``more``. Whatever it starts ends with it, as it does with this process.
    """

    def __init__(
        self,
        module: str,
        *,
        stacks: Path,
        log: Path,
        more: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.pipe, theirs = MessagePipe.open()
        self.stacks_path, self.log = stacks, log
        self._peak_kib = 0
        # The child can import what this process can (an engine in development).
        paths = os.pathsep.join(p for p in sys.path if p)
        # -P: a user's queue.py in the working directory must not hide the library's.
        command = [sys.executable, "-P", "-m", module]
        command += [str(theirs.fileno()), str(stacks), *more]
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = GuardedProcess(
                command,
                output,
                environment={**(environment or {}), "PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
            )
        theirs.close()
        self.pid = self._process.await_start()

    @property
    def has_ended(self) -> bool:
        """True once the process has ended."""
        return self._process.poll() is not None

    def wait(self, seconds: float = GONE_S) -> bool:
        """Give the process time to end; return whether it did."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.has_ended

    def close(self, seconds: float = 10) -> None:
        """Close the pipe, at which the process exits; kill it if it does not."""
        self.pipe.close()
        self.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        self._process.end()
        self.pipe.close()

    def look(self) -> None:
        """Bound the log, and record the peak memory for ``describe_exit``."""
        bound_log(self.log)
        with suppress(OSError, StopIteration):
            text = Path(f"/proc/{self.pid}/status").read_text()
            line = next(x for x in text.splitlines() if x.startswith("VmHWM"))
            self._peak_kib = int(line.split()[1])

    def describe_exit(self) -> str:
        """Return how the process ended, in words that can follow its name."""
        code = self._process.wait()
        if code >= 0:
            return f"exited with status {code} and sent no reason"
        return f"was ended by {name_signal(-code)}{self._explain_signal(-code)}"

    def _explain_signal(self, number: int) -> str:
        if number == signal.SIGKILL:
            return (
                ": somebody ended it (kill -9, a job scheduler, a container's limit), "
                "or the kernel did because memory ran out (its peak was "
                f"{self._peak_kib / 2**20:.2f} GiB; dmesg says so): then try fewer "
                "--mlperf-streams, a smaller --mlperf-batch or a shorter run"
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

    def read_last_output(self) -> str:
        """Return the last lines that this process and its libraries printed."""
        bound_log(self.log)
        lines = read_last_lines(self.log, self._log_start)
        head = f"\noutput of the runner ({self.log}):"
        return "\n".join([head, *lines]) if lines else ""

    def stacks(self) -> str:
        """Return the stacks that were dumped on request or by a crash."""
        return read_stacks(self.stacks_path)


def is_stopped(pid: int) -> bool:
    """Return whether a signal (SIGSTOP) keeps a process from going on."""
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] in ("T", "t")
    return False


def dump_stacks(pid: int, path: Path) -> str:
    """Ask a process for the stacks of its threads; empty if it does not answer.

    A handler in C answers, which works even while an engine holds the GIL.
    """
    if is_stopped(pid):
        return ""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and not read_stacks(path):
        time.sleep(0.05)
    time.sleep(0.1)
    return read_stacks(path)


def read_stacks(path: Path) -> str:
    """Return the first lines of a file of stacks; empty if there is none."""
    try:
        with path.open("rb") as file:
            text = redact(file.read(STACK_BYTES).decode(errors="replace"))
    except OSError:
        return ""
    return "\n".join(map(cut_line, text.splitlines()[:STACK_LINES]))


def name_signal(number: int) -> str:
    """Return a signal's name; most real-time signals have none of their own."""
    with suppress(ValueError):
        return signal.Signals(number).name
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"signal {number} (SIGRTMIN+{number - signal.SIGRTMIN})"
    return f"signal {number}"


def set_up_child() -> None:
    """Set up signals and memory priority in a newly started child process."""
    # Only the pytest process handles Ctrl-C: it ends this process and keeps the logs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    with suppress(OSError):
        # When memory runs out, the kernel should kill this process, not pytest.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask Linux for a signal to this process when the thread that started it ends.

    The heartbeat notices that too, but not while an engine holds the GIL.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
