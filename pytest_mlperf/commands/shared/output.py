"""What commands print."""

from __future__ import annotations

import sys


def describe_os_error(error: OSError) -> str:
    """Return which file it is about, what went wrong and what to do."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}; correct the path, or make room"


def print_text(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a text; what the stream's encoding lacks is escaped."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "ascii"
    data = text.encode(encoding, "backslashreplace")
    stream.write(data.decode(encoding) + end)
    stream.flush()
