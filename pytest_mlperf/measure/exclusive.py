"""Keeps the items of one session apart that need each other's devices.

Any number of workers measure beside each other, or one measures alone. Kernel locks on
two files: who wants to be alone holds the *turn* from then on, so that nobody else
begins, and has the *room* when all others have left it. A worker that crashes gives
both back.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTANT_S = 0.5


class ExclusiveLock:
    """The locks of one session, in a folder that its workers share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def beside(self, leave: Callable[[], None]) -> Iterator[None]:
        """Measure beside others; ``leave`` is called before there is waiting to do.

        Who waits may hold nothing that the one who is alone wants.
        """
        with self._file("turn") as turn, self._file("room") as room:
            # Others who begin beside us have the turn too, for an instant.
            until = time.monotonic() + INSTANT_S
            while not _take(turn, fcntl.LOCK_EX | fcntl.LOCK_NB):
                if time.monotonic() >= until:
                    leave()
                    _take(turn, fcntl.LOCK_EX)
                    break
                time.sleep(INSTANT_S / 100)
            # At once: whoever has the room alone has the turn too.
            _take(room, fcntl.LOCK_SH)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield

    @contextmanager
    def alone(self, leave: Callable[[], None]) -> Iterator[None]:
        """Measure when no other worker does."""
        leave()
        with self._file("turn") as turn, self._file("room") as room:
            _take(turn, fcntl.LOCK_EX)
            _take(room, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True
