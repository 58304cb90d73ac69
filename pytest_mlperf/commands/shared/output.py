"""What commands print."""

from __future__ import annotations

import sys


def print_text(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a text; what the stream's encoding lacks is escaped."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "ascii"
    data = text.encode(encoding, "backslashreplace")
    stream.write(data.decode(encoding) + end)
    stream.flush()
