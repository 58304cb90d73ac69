"""One process builds; others that want the same build wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pytest_mlperf.api.errors import BuildFailed


@contextmanager
def lock_build(path: Path) -> Iterator[None]:
    """Hold a lock file; ``BuildFailed`` where the cache cannot be written."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise BuildFailed(
            f"built engines cannot be kept in {path.parent}: {error}; give a folder "
            "that can be written with --mlperf-cache DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()
