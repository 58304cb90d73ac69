"""A file is whole or not there: half a page looks like a page."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from functools import cache
from pathlib import Path

from pytest_mlperf.core.regular_file import Identity
from pytest_mlperf.core.regular_file import identify_file
from pytest_mlperf.core.regular_file import open_regular
from pytest_mlperf.core.regular_file import read_text

PARTS, PART_BYTES = 64, 1 << 20
"""Of a cached file, what its digest is made of: all of it up to 64 MiB, and of a larger
one so many parts, its beginning and its end among them. They take 65 ms to read."""


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


def note_content(path: Path, *beside: Path) -> None:
    """Keep size and digest of a cached file, or of a folder's files, beside it.

    ``beside``: files that belong to it, where they are there.
    """
    files = _list_files(path, *beside)
    size = sum(file.stat().st_size for file in files)
    write_whole(_note_path(path), f"{size} {_digest(files)}\n")


def is_whole(path: Path, *beside: Path) -> bool:
    """Return whether a cached file or folder is there, with the content that was noted.

    What a CI restores or a full disk left may end in the middle; after a crash a file
    may have its size and zeros in it. Without a note it counts as whole where it is not
    empty, and so it does of the noted size where an earlier version noted no digest.
    """
    try:
        own, files = _list_files(path), _list_files(path, *beside)
        if not sum(file.stat().st_size for file in own):
            return False
        noted = _read_note(path)
        if noted is None:
            return True
        if sum(file.stat().st_size for file in files) != noted[0]:
            return False
        return noted[1] in ("", _digest(files))
    except OSError:  # gone meanwhile, or on a disk that does not read it any more
        return False


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.size")


def _read_note(path: Path) -> tuple[int, str] | None:
    """Return the noted size and digest; None where there is no note."""
    with suppress(OSError, ValueError):
        size, _, digest = read_text(_note_path(path)).strip().partition(" ")
        return int(size), digest
    return None


def _list_files(*paths: Path) -> list[Path]:
    return [
        file
        for path in paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]


def _digest(files: Iterable[Path]) -> str:
    """Return the digest of files in this order, whatever folder they lie in."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode())
        whole.update(_digest_file(file, identify_file(file.stat())))
    return whole.hexdigest()[:32]


@cache
def _digest_file(path: Path, identity: Identity) -> bytes:
    """Return the digest of a file's parts: once in a process, while it is the same."""
    found, size = hashlib.sha256(), identity[2]
    with open_regular(path) as file:
        for place in _place_parts(size):
            file.seek(place)
            found.update(file.read(PART_BYTES))
    return found.digest()


def _place_parts(size: int) -> Iterable[int]:
    """Return where parts of a file begin: one behind the other, or spread over it."""
    if size <= PARTS * PART_BYTES:
        return range(0, size, PART_BYTES)
    last = size - PART_BYTES
    return [last * part // (PARTS - 1) for part in range(PARTS)]


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, line ends as they are. Raises ``OSError``."""
    with replace_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
