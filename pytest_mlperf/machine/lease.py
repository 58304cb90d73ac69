"""One session a device: a file lock for each GPU that holds across processes.

The lock is the kernel's (``flock``), so a session that crashes gives its devices back.
A GPU is known by its UUID, whatever number CUDA gives it; a MIG instance locks itself
and shares its GPU with other instances, but not with a session on the whole GPU.
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
"""Where the locks lie. Not ``TMPDIR``, which differs from session to session. Nothing
in it is trusted: a lock file only says who to blame."""
POLL_S = 0.2
REMIND_S = 30.0


class DeviceHeld(RuntimeError):
    """Another session holds a device; the text says which, who and what to do."""


class LeaseError(RuntimeError):
    """No lock can be made; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One lock that a device needs."""

    key: str
    shared: bool = False
    """Other sessions may hold it too: the GPU of a MIG instance."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, by their own words."""

    pid: int
    session: str
    """Reports folder."""
    since: str = ""

    def __str__(self) -> str:
        since = f" since {self.since}" if self.since else ""
        return f"pid {self.pid}, session {self.session}{since}"


def claims(visible: str, parent: Callable[[str], str] = lambda _: "") -> list[Claim]:
    """Return the locks of one device, by its ``CUDA_VISIBLE_DEVICES`` value.

    ``parent`` finds the UUID of the GPU that a MIG instance is on, where the name does
    not hold it (drivers before R470 wrote it into the name). None for the CPU.
    """
    if not visible:
        return []
    if not visible.startswith("MIG-"):
        return [Claim(visible)]
    named = re.match(r"MIG-(GPU-[0-9a-fA-F-]+)/", visible)
    gpu = named[1] if named else parent(visible)
    return [Claim(gpu, shared=True)] * bool(gpu) + [Claim(visible)]


@contextmanager
def lease(
    wanted: Iterable[Claim],
    session: str,
    *,
    wait_s: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
    folder: Path = FOLDER,
) -> Iterator[tuple[str, ...]]:
    """Hold all locks while the block runs; yields their keys.

    Waits up to ``wait_s`` seconds in all, saying what for. Raises ``DeviceHeld`` when
    that was not enough, and ``LeaseError`` where the folder cannot be used.
    """
    # Sorted: two sessions that want the same devices cannot each hold half of them.
    ordered = sorted(set(wanted), key=lambda claim: (claim.key, claim.shared))
    deadline = time.monotonic() + wait_s
    with ExitStack() as held:
        for claim in ordered:
            held.enter_context(_locked(claim, session, deadline, say, folder))
        yield tuple(claim.key for claim in ordered)


@contextmanager
def _locked(
    claim: Claim,
    session: str,
    deadline: float,
    say: Callable[[str], None],
    folder: Path,
) -> Iterator[None]:
    path = folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', claim.key)}.lock"
    descriptor = _open(path)
    try:
        _acquire(descriptor, claim, path, deadline, say)
        _sign(descriptor, "" if claim.shared else session)
        yield
    finally:
        # The file stays: one that is removed while another session waits for it
        # would leave two sessions with a lock each.
        os.close(descriptor)


def _acquire(
    descriptor: int,
    claim: Claim,
    path: Path,
    deadline: float,
    say: Callable[[str], None],
) -> None:
    kind = fcntl.LOCK_SH if claim.shared else fcntl.LOCK_EX
    remind = 0.0
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            who = _who(descriptor)
            if now >= deadline:
                raise DeviceHeld(
                    f"device {claim.key} is in use by another session ({who}); two "
                    "sessions on one device spoil each other's figures: wait for its "
                    "end, choose another device with CUDA_VISIBLE_DEVICES, or end that "
                    f"process [{path}]"
                ) from None
            if now >= remind:
                remind = now + REMIND_S
                left = deadline - now
                say(f"waiting up to {left:.0f} s for device {claim.key}: held by {who}")
            time.sleep(min(POLL_S, deadline - now))
        except OSError as error:
            raise LeaseError(_unusable(path, error)) from error
        else:
            return


def _open(path: Path) -> int:
    """Open a lock file, making it and its folder for every user of the machine."""
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o1777)
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
        raise LeaseError(_unusable(path, error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LeaseError(f"{path} should be a plain file; remove it")
    return descriptor


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"the lock {path} cannot be used ({error.strerror}), so nobody could know that "
        "this device is being measured; make the folder writable for all its users"
    )


def _sign(descriptor: int, session: str) -> None:
    os.ftruncate(descriptor, 0)  # whoever signed before is gone
    if not session:
        return  # one of several holders
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = json.dumps({"pid": os.getpid(), "session": session, "since": since})
    os.pwrite(descriptor, text.encode(), 0)


def _who(descriptor: int) -> Holder | str:
    """Return what the holder wrote; it may be about to, and anybody may write."""
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(int(said["pid"]), str(said["session"]), str(said["since"]))
    except (ValueError, KeyError, TypeError, OSError):
        return "a session that left no name, or one on another part of the GPU"
