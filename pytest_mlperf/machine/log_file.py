"""The file that a child process prints into: bounded, and read from its end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pytest_mlperf.core.redaction import MARGIN
from pytest_mlperf.core.redaction import redact
from pytest_mlperf.core.redaction import redact_file

MOST_BYTES = 16 << 20
"""A log that is larger is cut down to its beginning and its end."""
KEPT_BYTES = 2 << 20
"""Of the beginning, and of the end."""
READS = 20
READ_BYTES = 1 << 16
SHOWN_LINES = 15
SHOWN_LINE = 500
"""Characters of a line that a message shows."""


def bound_log(log: Path) -> None:
    """Take the middle out of a log that has grown too large, and note that in it.

    Processes may be printing into it, which have opened it for appending. What they
    print in the microseconds of the cut is lost.
    """
    with suppress(OSError):
        size = log.stat().st_size
        if size <= MOST_BYTES:
            return
        with log.open("r+b") as file:
            head = file.read(KEPT_BYTES).rpartition(b"\n")[0] + b"\n"
            file.seek(size - KEPT_BYTES)
            tail = file.read().partition(b"\n")[2]
            # What was printed meanwhile, so that next to nothing can be lost.
            for _ in range(READS):
                if not (more := file.read()):
                    break
                tail = (tail + more)[-KEPT_BYTES:]
            size = file.tell()
            file.truncate(len(head))
        count = size - len(head) - len(tail)
        note = f"[… {count:,} bytes left out here: the log was too large …]\n"
        with log.open("ab") as end:
            end.write(note.encode() + tail)


def close_log(log: Path) -> None:
    """Leave a bounded log without secrets, once nobody prints into it any more."""
    bound_log(log)
    redact_file(log)


def close_logs(folder: Path) -> None:
    """Leave all logs below a folder so, of processes that are gone."""
    for path in folder.rglob("*.log"):
        close_log(path)


def read_last_lines(log: Path, begin: int = 0) -> list[str]:
    """Return the last lines of a log without secrets, none from before byte ``begin``.

    Only the file's end is read, and long lines are cut.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            begin = begin if begin <= size else 0  # ``bound_log`` has cut the file
            first = max(begin, size - READ_BYTES)
            file.seek(first)
            text = redact(file.read(READ_BYTES).decode("utf-8", "replace"))
    except OSError:
        return []
    if first > begin:
        # The first line is a part of one, and may begin with half of a secret.
        text = text.partition("\n")[2] or text[MARGIN:]
    return [cut_line(line) for line in text.splitlines()[-SHOWN_LINES:]]


def cut_line(line: str) -> str:
    """Return a line as a message shows it."""
    rest = len(line) - SHOWN_LINE
    return f"{line[:SHOWN_LINE]} [… {rest:,} characters]" if rest > 0 else line
