"""One process builds; others that want the same build wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.core.whole_file import is_whole


@contextmanager
def lock_build(path: Path, files: Iterable[Path]) -> Iterator[None]:
    """Hold a lock file; ``BuildFailed`` where the cache cannot be written.

    ``files`` are what a build consists of. Where all of them are there, a cache that
    can only be read is enough: an earlier job's, mounted into a container.
    """
    from filelock import FileLock

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        if all(map(is_whole, files)):
            yield  # nothing is going to be written
            return
        raise BuildFailed(
            f"built engines cannot be kept in {path.parent}: {error}; give a folder "
            "that can be written with --mlperf-cache DIR"
        ) from error
    try:
        yield
    finally:
        lock.release()
