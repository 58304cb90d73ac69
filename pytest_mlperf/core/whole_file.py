"""A file is whole or not there: half a page looks like a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

from pytest_mlperf.core.regular_file import read_text


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Yield a file to write, which takes the place of ``path`` when the block ends.

    Where the block raises (a full disk, Ctrl-C), an earlier file stays, and no part of
    the new one. The file to write is this process's own.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def note_size(path: Path, *beside: Path) -> None:
    """Keep the size of a cached file, or of a folder's files, beside it.

    ``beside``: files that belong to it, where they are there.
    """
    write_whole(_size_path(path), f"{_measure(path, *beside)}\n")


def is_whole(path: Path, *beside: Path) -> bool:
    """Return whether a cached file or folder is there, as large as was noted.

    What a CI restores or a full disk left may end in the middle. Without a note it
    counts as whole where it is not empty.
    """
    if not _measure(path):
        return False
    with suppress(OSError, ValueError):
        noted = int(read_text(_size_path(path)))
        return _measure(path, *beside) == noted
    return True


def _size_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.size")


def _measure(*paths: Path) -> int:
    return sum(
        file.stat().st_size
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, line ends as they are. Raises ``OSError``."""
    with replace_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
