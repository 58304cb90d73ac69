"""Runs a command, and ends all that it started once the command or its owner is gone.

``python process_guard.py GRACE_S DESCRIPTORS COMMAND …`` runs the command in a session
of its own, with the named descriptors. Standard input is a socket to the owner: the
command's process id goes there, and when it closes, because the owner closed it or
died, the command's group gets SIGTERM and, after the grace, SIGKILL.

The guard adopts processes that the command leaves behind (Linux's "child subreaper"),
also those in sessions of their own, so the whole tree ends with the command. It then
ends as the command did: with its exit status or by its signal. This file imports
nothing of the package, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
"""From Linux's sys/prctl.h."""
NOT_FOUND = 127
STEP_S = 0.02
TREE_S = 5.0
"""How long killed processes may take to be gone: one in the kernel ends later."""
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals at which the guard ends the command, as if the owner were gone."""


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status, or end by the signal that ended it."""
    grace_s, descriptors, *command = arguments
    inherited = [int(one) for one in descriptors.split(",") if one]
    _set_option(PR_SET_CHILD_SUBREAPER, 1)
    signals = _hear_signals()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=inherited,
            preexec_fn=_die_with_parent,  # this process has one thread
        )
    except OSError as error:
        # Standard error is the command's log.
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        return NOT_FOUND
    for descriptor in inherited:
        os.close(descriptor)  # the owner is to see when the command's end closes
    with suppress(OSError):
        os.write(0, b"%d\n" % process.pid)
    if not _await_end(process.pid, signals) and float(grace_s):
        _end_gently(process, float(grace_s))
    _end_tree()
    return _end_as(process.wait())


def _hear_signals() -> int:
    """Return the descriptor from which the numbers of received signals are read."""
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (*ENDING, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return readable


def _await_end(pid: int, signals: int) -> bool:
    """Return True once the command has ended, False once its owner is gone."""
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (0, ended, signals):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ended in ready:
            return True
        received = os.read(signals, 512) if signals in ready else b""
        if 0 in ready or any(number in received for number in ENDING):
            return False
        _reap_adopted(pid)


def _reap_adopted(pid: int) -> None:
    """Collect ended processes that were adopted, but not the command itself."""
    options = os.WEXITED | os.WNOHANG
    with suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, options | os.WNOWAIT):
            if found.si_pid == pid:
                return
            os.waitid(os.P_PID, found.si_pid, options)


def _end_gently(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the command's group to end, and give it time."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    until = time.monotonic() + grace_s
    while time.monotonic() < until and _group_lives(process):
        time.sleep(STEP_S)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process of the group is left; reaps the command itself."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end_tree() -> None:
    """Kill every descendant of this process, and those that they start meanwhile."""
    until = time.monotonic() + TREE_S
    while found := list(_list_descendants(os.getpid())):
        if time.monotonic() > until:
            return
        for pid, start in found:
            _kill(pid, start)
        time.sleep(STEP_S / 10)


def _list_descendants(root: int) -> Iterator[tuple[int, bytes]]:
    """Yield process id and start time of each descendant that has not ended."""
    children: dict[int, list[tuple[int, bytes]]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow
        if name.isdecimal() and (read := _read_stat(int(name))):
            parent, start = read
            children.setdefault(parent, []).append((int(name), start))
    found = [root]
    for one in found:
        for pid, start in children.get(one, ()):
            found.append(pid)
            yield pid, start


def _read_stat(pid: int) -> tuple[int, bytes] | None:
    """Return parent and start time of a process; None where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow
            # The name may contain anything, even a bracket: the last bracket ends it.
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else (int(words[1]), words[19])


def _kill(pid: int, start: bytes) -> None:
    """Kill a process, unless its number has gone to another one meanwhile."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if (read := _read_stat(pid)) and read[1] == start:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _end_as(status: int) -> int:
    """End by the signal that ended the command, without a core file of its own."""
    if status >= 0:
        return status
    _set_option(PR_SET_DUMPABLE, 0)
    with suppress(OSError, ValueError):  # SIGKILL has no handler
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status


def _die_with_parent() -> None:
    _set_option(PR_SET_PDEATHSIG, signal.SIGKILL)


def _set_option(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
