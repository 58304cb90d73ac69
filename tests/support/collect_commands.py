"""Collect what many ``pytest`` commands select, in one process.

Reads a JSON list of argument lists from its input, and prints a JSON list of
``[exit status, items, what was printed]``. Started as a program: a session inside a
test would share its plugins.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys
import tempfile

import pytest

WITHOUT = ("-p", "no:unraisableexception", "-p", "no:threadexception")
"""They collect garbage at the end of each session, which is half of its time."""


class Counter:
    """Keeps how many items a session selected."""

    items = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = len(session.items)


def collect(arguments: list[str], cache: str) -> tuple[int, int, str]:
    """Return the exit status, the number of items and the output of one command."""
    counter, printed = Counter(), io.StringIO()
    more = ["--collect-only", "-q", *WITHOUT]
    if not any("bench" in word or word.startswith("perf") for word in arguments):
        more += ["-p", "no:benchmark"]  # it asks git four times
    if "no:cacheprovider" not in arguments:
        more += ["-o", f"cache_dir={cache}"]
    if any(word.startswith("--junitxml") for word in arguments):
        more += [f"--junitxml={cache}/junit.xml"]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = pytest.main([*arguments, *more], plugins=[counter])
    return int(code), counter.items, printed.getvalue()


if __name__ == "__main__":
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        answers = [collect(words, folder) for words in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
