"""Runs a server, and ends it when the process that started it is gone.

``python server_guard.py GRACE_S COMMAND …`` runs the command in a process group of its
own. Standard input is a pipe to the owner: when it closes, because the owner closed it
or died, the group gets SIGTERM and, after the grace, SIGKILL. This file imports nothing
of the package, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""
NOT_FOUND = 127
STEP_S = 0.02


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status, or 128 plus the signal that ended it."""
    grace_s, command = float(arguments[0]), arguments[1:]
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # this process has one thread
        )
    except OSError as error:
        # Standard error is the server's log.
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        return NOT_FOUND
    ended = os.pidfd_open(server.pid)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(ended, select.POLLIN)
    if ended not in {fd for fd, _ in poll.poll()}:
        _signal(server.pid, signal.SIGTERM)
        until = time.monotonic() + grace_s
        while time.monotonic() < until and _group_lives(server):
            time.sleep(STEP_S)
    # The server may have left processes of its group.
    _signal(server.pid, signal.SIGKILL)
    status = server.wait()
    return 128 - status if status < 0 else status


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(server: subprocess.Popen[bytes]) -> bool:
    """Return whether a process of the group is left; reaps the server itself."""
    server.poll()
    try:
        os.killpg(server.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
