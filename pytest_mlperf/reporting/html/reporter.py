"""The reporter ``html``: ``report.html`` in the session's folder."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.reporting.html.page import ReportInput
from pytest_mlperf.reporting.html.page import find_missing_package
from pytest_mlperf.reporting.html.page import render_report

FILE = "report.html"


def describe_session(session: SessionResults, folder: Path) -> ReportInput:
    """Return what a report of a session is about, which lies in a folder."""
    header = session.header
    versions = header.get("versions", {})
    end = session.end or {}
    about = {
        "system": header.get("system", {}).get("summary", ""),
        "started": header.get("started", ""),
        "ended": end.get("ended", ""),
        "command": " ".join(("pytest", *map(str, header.get("args", ())))),
        "rounds": ", ".join(header.get("rounds", ())),
        "versions": ", ".join(f"{name} {text}" for name, text in versions.items()),
    }
    notes = []
    if session.is_interrupted:
        notes.append("Partial: the session was ended before all of its items had run.")
    if session.torn:
        notes.append("Partial: lines of results.jsonl are damaged and not shown.")
    return ReportInput(
        "MLPerf Inference results",
        {name: text for name, text in about.items() if text},
        session.records,
        notes,
        folder,
    )


class HtmlReporter:
    """Writes the report of each session where the extra ``html`` is installed."""

    name = "html"

    def write(self, session: SessionResults, folder: Path) -> Path | None:
        """Return the path of the report; None without the extra, or with no run."""
        if find_missing_package() or not session.verdicts:
            return None
        path = folder / FILE
        write_whole(path, render_report(describe_session(session, folder)))
        return path


HTML = HtmlReporter()
