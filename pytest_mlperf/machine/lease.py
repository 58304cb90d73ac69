"""One session per device: a file lock for each GPU, valid across processes.

The lock is the kernel's (``flock``), so a session that crashes releases its devices.
A GPU is identified by its UUID, not by CUDA's number; a MIG instance locks itself and
shares its GPU with other instances, but not with a session on the whole GPU.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/tmp/pytest-mlperf-leases")  # noqa: S108 - see below
"""Folder of the locks. Not ``TMPDIR``, which differs between sessions. Nothing in it is
trusted: a lock file only names its holder."""
POLL_S = 0.2
REMIND_S = 30.0


class DeviceHeld(RuntimeError):
    """Another session holds a device; the text names both and the remedy."""


class LeaseError(RuntimeError):
    """A lock cannot be made; the text says where and why."""


@dataclass(frozen=True, slots=True)
class DeviceLock:
    """One lock that a device needs."""

    key: str
    shared: bool = False
    """Other sessions may hold it too, as for the GPU of a MIG instance."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The session that holds a lock, as it signed the lock file."""

    pid: int
    session: str
    """Reports folder."""
    since: str = ""

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return f"pid {self.pid}, session {self.session}{since}"


def list_locks(
    visible: str, parent: Callable[[str], str] = lambda _: ""
) -> list[DeviceLock]:
    """Return the locks of one device, by its ``CUDA_VISIBLE_DEVICES`` value; none for
    the CPU.

    ``parent`` finds the UUID of a MIG instance's GPU when the instance's name does not
    contain it (drivers before R470 wrote it into the name).
    """
    if not visible:
        return []
    if not visible.startswith("MIG-"):
        return [DeviceLock(visible)]
    match = re.match(r"MIG-(GPU-[0-9a-fA-F-]+)/", visible)
    gpu = match[1] if match else parent(visible)
    return [DeviceLock(gpu, shared=True)] * bool(gpu) + [DeviceLock(visible)]


@contextmanager
def lease(
    locks: Iterable[DeviceLock],
    session: str,
    *,
    wait_s: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
    folder: Path = FOLDER,
) -> Iterator[tuple[str, ...]]:
    """Hold all locks while the block runs; yields their keys.

    Waits up to ``wait_s`` seconds in all and reports what it waits for through ``say``.
    Raises ``DeviceHeld`` after that, and ``LeaseError`` for an unusable folder.
    """
    # Sorted, so that two sessions cannot each hold half of the same devices.
    ordered = sorted(set(locks), key=lambda lock: (lock.key, lock.shared))
    deadline = time.monotonic() + wait_s
    with ExitStack() as stack:
        for lock in ordered:
            stack.enter_context(_hold_lock(lock, session, deadline, say, folder))
        yield tuple(lock.key for lock in ordered)


@contextmanager
def _hold_lock(
    lock: DeviceLock,
    session: str,
    deadline: float,
    say: Callable[[str], None],
    folder: Path,
) -> Iterator[None]:
    path = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', lock.key)}.lock"
    descriptor = _open(path)
    try:
        _acquire(descriptor, lock, path, deadline, say)
        sign(descriptor, "" if lock.shared else session)
        yield
    finally:
        # The file stays: removing it while another session waits for it would give
        # two sessions a lock each.
        os.close(descriptor)


def _acquire(
    descriptor: int,
    lock: DeviceLock,
    path: Path,
    deadline: float,
    say: Callable[[str], None],
) -> None:
    kind = fcntl.LOCK_SH if lock.shared else fcntl.LOCK_EX
    remind = 0.0
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            who = read_holder(descriptor)
            if now >= deadline:
                raise DeviceHeld(
                    f"device {lock.key} is in use by another session ({who}); two "
                    "sessions on one device spoil each other's figures: wait for its "
                    "end, choose another device with CUDA_VISIBLE_DEVICES, or end that "
                    f"process [{path}]"
                ) from None
            if now >= remind:
                remind = now + REMIND_S
                left = deadline - now
                say(f"waiting up to {left:.0f} s for device {lock.key}: held by {who}")
            time.sleep(min(POLL_S, deadline - now))
        except OSError as error:
            raise LeaseError(_describe_unusable(path, error)) from error
        else:
            return


def _open(path: Path) -> int:
    """Open a lock file; make it and its folder for every user of the machine."""
    try:
        make_shared_folder(path.parent)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            # Kernels refuse O_CREAT on another user's file in a shared folder.
            with suppress(FileNotFoundError):
                descriptor = os.open(path, flags)
                break
            with suppress(FileExistsError):
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(descriptor, 0o666)
                break
    except OSError as error:
        raise LeaseError(_describe_unusable(path, error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LeaseError(f"{path} should be a plain file; remove it")
    return descriptor


def _describe_unusable(path: Path, error: OSError) -> str:
    return (
        f"the lock {path} cannot be used ({error.strerror}), so nobody could know that "
        "this device is being measured; make the folder writable for all its users"
    )


def make_shared_folder(folder: Path) -> None:
    """Make a folder in which every user of the machine may write."""
    for one in (*reversed(folder.parents), folder):
        with suppress(FileExistsError):
            one.mkdir()
            one.chmod(0o1777)


def sign(descriptor: int, session: str) -> None:
    """Write this process as the holder into a lock file that it holds."""
    os.ftruncate(descriptor, 0)  # the previous holder is gone
    if not session:
        return  # one of several holders
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = json.dumps({"pid": os.getpid(), "session": session, "since": since})
    os.pwrite(descriptor, text.encode(), 0)


def read_holder(descriptor: int) -> Holder | str:
    """Return the holder as the file names it, which may be incomplete or forged."""
    try:
        text = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(int(text["pid"]), str(text["session"]), str(text["since"]))
    except (ValueError, KeyError, TypeError, OSError):
        return "a session that left no name, or one on another part of the GPU"
