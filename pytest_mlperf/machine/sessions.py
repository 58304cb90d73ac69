"""Who measures on this machine at the moment: a locked file for each process that does.

GPUs are leased (``lease``); CPUs, memory and links are everybody's, so a run only tells
of the sessions beside it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

from pytest_mlperf.machine import lease
from pytest_mlperf.machine.lease import Holder

FOLDER = lease.FOLDER / "measuring"
SUFFIX = ".session"


@contextmanager
def announce(session: str, folder: Path = FOLDER) -> Iterator[None]:
    """Tell others that this process measures, while the block runs.

    ``session``: what the processes of one session share. A folder that cannot be
    written hides this process, and hinders nothing.
    """
    descriptor, path = None, None
    with suppress(OSError):
        lease.make_shared_folder(folder)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f"{os.getpid()}-")
        os.fchmod(descriptor, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lease.sign(descriptor, session)
        # Named last: nobody finds it unlocked.
        path = Path(name).rename(f"{name}{SUFFIX}")
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


def list_others(session: str, folder: Path = FOLDER) -> list[Holder]:
    """Return the processes of other sessions that measure now."""
    others = []
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(OSError):
            descriptor = os.open(path, flags)
            try:
                if not _is_held(descriptor):
                    path.unlink()  # whoever made it was killed
                    continue
                holder = lease.read_holder(descriptor)
            finally:
                os.close(descriptor)
            if isinstance(holder, Holder) and holder.session != session:
                others.append(holder)
    return others


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
