"""A report's file is whole or not there: half a page looks like a page."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, line ends as they are.

    Raises ``OSError`` (a full disk): then an earlier file stays, and no part of the new
    one; so it is after Ctrl-C.
    """
    partial = path.with_name(f"{path.name}.tmp")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
