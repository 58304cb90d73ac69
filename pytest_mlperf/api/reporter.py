"""What a reporter is: it makes something of a session's results when they are whole.

A package adds one by an entry point in ``pytest_mlperf.reporters`` that names an object
with ``write``; docs/extend/reporter.md shows a whole one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults

__all__ = ["Record", "Reporter", "SessionResults"]


class Reporter(Protocol):
    """Writes one report of a session."""

    @property
    def name(self) -> str:
        """``csv``, ``html`` …: also the name of its entry point."""

    def write(self, session: SessionResults, folder: Path, /) -> Path | None:
        """Write the report and return its path; None where there is nothing to show.

        Runs once a session that measured, when ``results.jsonl`` has its closing line,
        on the controller of xdist's workers. ``folder``: the session's reports folder.
        The terminal lists the path. An exception loses no result: the terminal tells
        it, and the session's exit status is 1 where it would have been 0.
        """
