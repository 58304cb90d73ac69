"""A runner's temporary folder, and the sweep of those whose owner is gone.

The owner holds a kernel lock on a file in its folder. It falls with the process however
that ends, and is seen from other containers, which process ids are not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "pytest-mlperf-runner-"
OWNER = "owner.lock"


class ScratchFolder:
    """A folder of its own below ``TMPDIR``, until ``remove``."""

    def __init__(self) -> None:
        """Make the folder; remove those that killed sessions left beside it."""
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._owner: int | None = None
        # Locked before it has its name: a sweep never finds it unlocked.
        new = self.path / f"{OWNER}.new"
        with suppress(OSError):  # a file system without locks: nobody sweeps it
            self._owner = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(self.path / OWNER)
        sweep(self.path.parent)

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def sweep(folder: Path) -> None:
    """Remove this user's runner folders whose owner is gone.

    One without a lock file has an unknown owner, and stays.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            is_ours = path.lstat().st_uid == os.geteuid() and not path.is_symlink()
            if not (is_ours and path.is_dir()):
                continue
            owner = os.open(path / OWNER, flags)
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(owner)
