"""A command whose whole process tree ends with it, and with the process that owns it.

``process_guard.py`` stands between the two, because only a parent that outlives the
command can find what it left behind in sessions of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO
from typing import Any

GUARD = Path(__file__).with_name("process_guard.py")
START_S = 60.0
"""How long the guard may take to start the command."""
TREE_S = 10.0
"""How long the guard may take to end the tree, after the grace."""


class GuardedProcess:
    """The command's process, by way of its guard."""

    def __init__(
        self,
        command: Sequence[str],
        output: IO[Any] | int,
        *,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 0.0,
        pass_fds: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> None:
        """Start the command; what it prints goes to ``output``.

        ``environment`` is added to this process's. ``grace_s`` is the time between
        SIGTERM and SIGKILL for a command that its owner ends; 0 kills at once.
        """
        self._grace_s = grace_s
        self._control, theirs = socket.socketpair()
        descriptors = ",".join(map(str, pass_fds))
        guard = [sys.executable, "-I", "-S", str(GUARD), f"{grace_s:g}", descriptors]
        with theirs:
            self._guard: subprocess.Popen[bytes] = subprocess.Popen(
                [*guard, *command],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
                cwd=cwd,
                # Ctrl-C reaches pytest alone.
                start_new_session=True,
            )

    def await_start(self) -> int:
        """Return the command's process id. Raises ``ChildProcessError`` without one."""
        self._control.settimeout(START_S)
        text = b""
        with suppress(OSError):
            while not text.endswith(b"\n") and (read := self._control.recv(32)):
                text += read
        if not text.endswith(b"\n"):
            raise ChildProcessError(f"{GUARD.name} did not start the command")
        return int(text)

    def poll(self) -> int | None:
        """Return the exit status, a signal's number negative; None while it runs.

        The command's whole tree has ended by then.
        """
        return self._guard.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end; return the status. Raises ``subprocess.TimeoutExpired``."""
        return self._guard.wait(timeout_s)

    def end(self) -> None:
        """End the command and all that it started."""
        with suppress(OSError):
            # A process that was forked from this one may have the socket too.
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        try:
            self._guard.wait(self._grace_s + TREE_S)
        except subprocess.TimeoutExpired:
            # The command ends when its guard does.
            self._guard.kill()
            self._guard.wait()
