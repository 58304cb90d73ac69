"""How ``explain`` writes on a terminal: width, color, folding."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

COLORS = {"VALID": "32", "INVALID": "31", "ERROR": "35", "waived": "33"}
NARROWEST, PIPED = 60, 120


def choose_width() -> int:
    """Return the columns of the output: the terminal's, or 120 in a pipe."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return PIPED
    return max(NARROWEST, shutil.get_terminal_size().columns)


def is_colored() -> bool:
    """True on a terminal that shows colors, unless the user disabled them."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout.isatty()


def wrap_line(text: str, columns: int, indent: int = 10) -> list[str]:
    """Return a line folded to the columns; words and paths stay whole."""
    return textwrap.wrap(
        text,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paint(text: str, shade: str, color: bool) -> str:
    """Return the text in the color of its shade, if colors are on."""
    code = COLORS.get(shade)
    return f"\x1b[{code}m{text}\x1b[0m" if color and code else text


def escape_controls(text: str) -> str:
    """Return a text from a log or path with control characters escaped."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
