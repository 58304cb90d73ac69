"""Accuracy logs in the size a submission may have, known by the hash of the whole."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_mlperf.core.regular_file import open_regular

LIMIT = 10_240
"""Bytes of an accuracy log in a submission, at most (the checker's table)."""
SHOWN = 4096
"""Bytes of either end."""
GAP = b"\n\n...\n\n"
HASH = re.compile(r"^hash=(\w+)$", re.MULTILINE)


def read_ends(path: Path) -> bytes:
    """Return a file's first and last 4096 bytes with dots between, or a short file.

    Source: truncate_accuracy_log.py of mlcommons/inference, which cuts from 4096 bytes
    on, so that a log just above it repeats some of itself.
    """
    with open_regular(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        if size < SHOWN:
            return stream.read()
        first = stream.read(SHOWN)
        stream.seek(size - SHOWN)
        return first + GAP + stream.read(SHOWN)


def sign_text(accuracy_txt: str, sha256: str) -> str:
    """Return accuracy.txt with exactly this hash line, the last one."""
    lines = [line for line in accuracy_txt.splitlines() if not HASH.fullmatch(line)]
    text = "\n".join(lines).rstrip("\n")
    return f"{text}\n\nhash={sha256}\n" if text else f"hash={sha256}\n"
