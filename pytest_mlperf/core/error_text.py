"""An exception in words: of a bounded size, without secrets, whatever it is.

Its text may be a server's: no character of it is a command to the terminal.
"""

from __future__ import annotations

import re
import traceback

from pytest_mlperf.core.redaction import shorten

MOST_CAUSE = 4000
"""Characters of an exception's own text."""
MOST_TRACEBACK = 20_000
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def read_text(error: BaseException) -> str:
    """Return an exception's text; of one that cannot be made into text, why."""
    try:
        text = str(error)
    except BaseException as problem:  # noqa: BLE001 - it is somebody else's code
        text = f"(its text cannot be made: __str__ raised {type(problem).__name__})"
    return make_printable(shorten(text, MOST_CAUSE))


def describe_error(error: BaseException) -> str:
    """Return an exception's type and text."""
    return f"{type(error).__name__}: {read_text(error)}"


def format_traceback(error: BaseException) -> str:
    """Return an exception's traceback, with those that it came from."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as problem:  # noqa: BLE001 - as above
        where = "".join(traceback.format_tb(error.__traceback__))
        reason = f"(its traceback is short: {type(problem).__name__} while it was made)"
        text = f"{where}{describe_error(error)}\n{reason}\n"
    return make_printable(shorten(text, MOST_TRACEBACK))


def make_printable(text: str) -> str:
    """Return a text without colors, and with other control characters escaped.

    Line breaks and tabs stay.
    """
    return "".join(
        one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1]
        for one in _COLORS.sub("", text)
    )
