"""A line that shows how far something is, on a terminal alone."""

from __future__ import annotations

import time
from typing import TextIO

from pytest_mlperf.commands.scratch.survey import format_size

WIDTH = 24
EVERY_S = 0.2


class ProgressBar:
    """Draws one line over and over; nothing where the stream is no terminal."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self._title, self._stream = title, stream
        self._next = 0.0
        self._is_drawn = False

    def show(self, done: int, total: int | None, unit: str = "") -> None:
        """Show ``done`` of ``total``: bytes, or a number of ``unit``."""
        now = time.monotonic()
        if not self._stream.isatty() or (now < self._next and done != total):
            return
        self._next = now + EVERY_S
        self._is_drawn = True
        self._stream.write(f"\r{format_progress(self._title, done, total, unit)}\x1b[K")
        self._stream.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._is_drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def format_progress(title: str, done: int, total: int | None, unit: str) -> str:
    """Return ``title [####    ] 1.2 GB of 3.4 GB``."""
    texts = [
        f"{value} {unit}" if unit else format_size(value)
        for value in (done, total)
        if value is not None
    ]
    share = min(1.0, done / total) if total else 0.0
    bar = "#" * round(share * WIDTH)
    return f"{title} [{bar:<{WIDTH}}] {' of '.join(texts)}"
