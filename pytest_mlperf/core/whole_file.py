"""A file is whole or not there: half a page looks like a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, line ends as they are. Raises ``OSError``."""
    with replace_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
