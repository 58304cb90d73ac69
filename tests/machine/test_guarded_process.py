"""Commands whose whole tree ends with them, and with their owner: real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_mlperf.machine.guarded_process import GuardedProcess
from tests.support.processes import LIMIT_S
from tests.support.processes import await_end
from tests.support.processes import is_alive

TREE = """
import os, signal, sys, time
folder, how = sys.argv[1:]

def note(name):
    with open(f"{folder}/{name}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")

def daemon():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid()
    if os.fork() == 0:
        note("daemon")
        if os.fork() == 0:
            note("grandchild")
        time.sleep(600)
    os._exit(0)

if how == "short-lived":
    for number in range(20):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.01)
            os._exit(0)
        os.wait()
elif os.fork() == 0:
    daemon()
while how != "short-lived" and not os.path.exists(f"{folder}/grandchild"):
    time.sleep(0.01)
note("command")
if how == "exits":
    sys.exit(7)
if how == "crashes":
    os.abort()
if how.isdecimal():
    os.kill(os.getpid(), int(how))
time.sleep(600)
"""


def await_pid(folder: Path, name: str) -> int:
    until = time.monotonic() + LIMIT_S
    while not (folder / name).exists():
        assert time.monotonic() < until, f"no {name}"
        time.sleep(0.01)
    return int((folder / name).read_text())


def start(folder: Path, how: str, grace_s: float = 0.0) -> GuardedProcess:
    command = [sys.executable, "-c", TREE, str(folder), how]
    return GuardedProcess(command, subprocess.DEVNULL, grace_s=grace_s)


NAMES = ("command", "daemon", "grandchild")


@pytest.mark.parametrize("grace_s", [0.0, 0.2])
def test_the_whole_tree_ends_with_the_command(tmp_path: Path, grace_s: float) -> None:
    """Whatever its session, and though it ignores SIGTERM; nobody else's does."""
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    process = start(tmp_path, "waits", grace_s)
    pids = [await_pid(tmp_path, name) for name in NAMES]
    try:
        assert process.await_start() == pids[0]
        assert process.poll() is None
        assert all(map(is_alive, pids))
        process.end()
        assert not any(map(is_alive, pids))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("exits", 7),
        ("crashes", -signal.SIGABRT),
        (str(int(signal.SIGKILL)), -signal.SIGKILL),
        (str(int(signal.SIGRTMIN) + 4), -(signal.SIGRTMIN + 4)),
    ],
)
def test_a_command_that_ends_takes_its_tree_along(
    tmp_path: Path, how: str, status: int
) -> None:
    """The guard ends as the command did, when nothing is left."""
    process = start(tmp_path, how)
    ended = process.wait(LIMIT_S)
    pids = [await_pid(tmp_path, name) for name in NAMES]
    process.end()

    assert ended == status
    assert not any(map(is_alive, pids))


OWNER = """
import subprocess, sys, time
from pytest_mlperf.machine.guarded_process import GuardedProcess
process = GuardedProcess(sys.argv[1:], subprocess.DEVNULL)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_whole_tree_ends_with_its_owner(
    tmp_path: Path, number: signal.Signals
) -> None:
    """However the owner ends, and without a word from it."""
    command = [sys.executable, "-c", TREE, str(tmp_path), "waits"]
    with subprocess.Popen([sys.executable, "-c", OWNER, *command]) as owner:
        pids = [await_pid(tmp_path, name) for name in NAMES]
        owner.send_signal(number)
    for pid in pids:
        await_end(pid)


def test_a_guard_that_is_ended_ends_the_tree(tmp_path: Path) -> None:
    """Somebody may clean up by hand."""
    process = start(tmp_path, "waits")
    pids = [await_pid(tmp_path, name) for name in NAMES]
    process._guard.terminate()
    process.wait(LIMIT_S)
    process.end()

    assert not any(map(is_alive, pids))


def test_adopted_processes_that_ended_are_collected(tmp_path: Path) -> None:
    """An engine may start thousands in a session: none stays as a zombie."""
    process = start(tmp_path, "short-lived")
    await_pid(tmp_path, "command")
    guard = process._guard.pid
    until = time.monotonic() + LIMIT_S
    while children := [
        stat
        for path in Path("/proc").glob("[0-9]*/stat")
        if (stat := read_state(path)) == ("Z", guard)
    ]:
        assert time.monotonic() < until, children
        time.sleep(0.05)
    is_running = process.poll() is None
    process.end()

    assert is_running


def read_state(path: Path) -> tuple[str, int]:
    """Return state and parent of a process."""
    try:
        state, parent = path.read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return "", 0
    return state, int(parent)


def test_a_command_that_is_not_there_has_no_process(tmp_path: Path) -> None:
    """The log has the system's word for it."""
    with (tmp_path / "log").open("wb") as log:
        process = GuardedProcess(["/no/such/program"], log)
    with pytest.raises(ChildProcessError, match="did not start"):
        process.await_start()
    process.end()

    assert process.poll() == 127
    assert "cannot run /no/such/program: No such" in (tmp_path / "log").read_text()
