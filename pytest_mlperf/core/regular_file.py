"""The one opener for files of a tree that somebody else may have made.

A name in such a tree can be anything: a named pipe waits for a writer that never comes,
a device never ends, and a link leads to a file of the reader's own. Each is an
``OSError`` here, before anything is read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

LARGEST_TEXT = 1 << 26
"""Bytes of a text that is read whole; a verdict of ours has some thousand."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)


Identity = tuple[int, int, int, int]
"""Device, inode, bytes, and nanoseconds of the last change of content."""


def identify_file(state: os.stat_result) -> Identity:
    """Return what a file is recognized by."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def open_regular(
    path: Path, root: Path | None = None, *, listed: Identity | None = None
) -> BufferedReader:
    """Open a regular file for reading; ``OSError`` for anything else.

    With ``root``, links are followed inside that folder only, and no part of the path
    can become a link while it is opened. ``listed`` is the identity of the file that
    was there when the tree was listed.
    """
    number = _open_anywhere(path) if root is None else _open_inside(path, root)
    try:
        state = os.fstat(number)
        _require_regular(state, path)
        if listed is not None and listed != identify_file(state):
            raise OSError(errno.ESTALE, "changed since it was listed", str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_text(path: Path, root: Path | None = None) -> str:
    """Return the content of a regular file, as UTF-8.

    Raises ``OSError`` for anything else and for more than ``LARGEST_TEXT`` bytes,
    ``ValueError`` for bytes that are no text.
    """
    with open_regular(path, root) as file:
        raw = file.read(LARGEST_TEXT + 1)
    if len(raw) > LARGEST_TEXT:
        why = f"more than {LARGEST_TEXT:,} bytes"
        raise OSError(errno.EFBIG, why, str(path))
    return raw.decode()


def is_below(path: Path, root: Path) -> bool:
    """True for a path that leads into a folder, links followed; False for a broken one.

    ``OSError`` for a root that is not there.
    """
    real = Path(os.path.realpath(root, strict=True))
    try:
        return Path(os.path.realpath(path, strict=True)).is_relative_to(real)
    except OSError:
        return False


def _open_anywhere(path: Path) -> int:
    # Looked at first, because opening a device can have an effect: a tape rewinds.
    _require_regular(path.stat(), path)
    return os.open(path, _READ)


def _open_inside(path: Path, root: Path) -> int:
    start, text = f"{root}/", str(path)
    parts = text.removeprefix(start).split("/")
    if text.startswith(start) and ".." not in parts:
        # Most trees have no link: where there is one, the walk ends with an error.
        with suppress(OSError):
            return _walk(str(root), parts, path, _FOLDER & ~os.O_NOFOLLOW)
    real = Path(os.path.realpath(root, strict=True))
    target = Path(os.path.realpath(path, strict=True))
    if not target.is_relative_to(real):
        raise OSError(errno.EXDEV, "a link that leaves the tree", str(path))
    return _walk(str(real), target.relative_to(real).parts or (".",), path, _FOLDER)


def _walk(root: str, parts: Sequence[str], path: Path, how: int) -> int:
    """Open a file below a folder, which is opened so, part by part; follow no link."""
    *folders, name = parts
    folder = os.open(root, how)
    try:
        for part in folders:
            deeper = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        state = os.stat(name, dir_fd=folder, follow_symlinks=False)
        _require_regular(state, path)
        return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def _require_regular(state: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
