"""The job summary of GitHub Actions: a table of verdicts in Markdown.

Written in every session where ``GITHUB_STEP_SUMMARY`` names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.reporting.flat import FlatRow
from pytest_mlperf.reporting.flat import list_rows
from pytest_mlperf.reporting.formats import SUMMARY

MARKS = {"VALID": "✅ VALID", "INVALID": "❌ INVALID", "ERROR": "⚠️ ERROR"}
MOST = 900_000
"""Bytes; GitHub takes 1 MiB a step."""


HEADS = (
    "verdict", "benchmark", "scenario", "mode", "engine", "result", "latency", "limit",
    "time",
)  # fmt: skip


class GithubReporter:
    """Appends to the file that GitHub shows; elsewhere it writes ``summary.md``."""

    name = "github"

    def write(self, session: SessionResults, folder: Path) -> Path | None:
        """Return the path; None where no item ran."""
        if not session.records:
            return None
        named = os.environ.get(SUMMARY)
        path = Path(named) if named else folder / "summary.md"
        text = "\n".join([*format_summary(session), ""])
        with path.open("a" if named else "w", encoding="utf-8") as stream:
            stream.write(text.encode()[:MOST].decode(errors="ignore"))
        return path


def format_summary(session: SessionResults) -> Iterator[str]:
    """Yield the lines: title, what keeps it from being a result, table, causes."""
    rows = list(list_rows(session))
    valid = sum(row["verdict"] == "VALID" for row in rows)
    system = session.header.get("system") or {}
    yield f"## MLPerf: {valid} of {len(rows)} VALID on {escape(system.get('name', ''))}"
    yield ""
    if session.is_interrupted:
        yield "**Interrupted: not every item ran.**"
        yield ""
    if labels := ", ".join(session.labels):
        yield f"Not submission results: {escape(labels)}."
        yield ""
    yield f"| {' | '.join(HEADS)} |"
    yield f"|{'---|' * 5}{'--:|' * (len(HEADS) - 5)}"
    yield from (format_row(row) for row in rows)
    for row in rows:
        cause = row["cause"] if row["verdict"] != "VALID" else ""
        beside = f"measured beside {row['beside']}" if row["beside"] else ""
        if notes := "; ".join(filter(None, [cause, beside])):
            yield ""
            where = f"{row['benchmark']} {row['scenario']} {row['mode']}"
            yield f"- **{escape(where)}**: {escape(notes)}"


def format_row(row: FlatRow) -> str:
    """Return a row of the table."""
    cells = [
        MARKS.get(row["verdict"], row["outcome"]), row["benchmark"], row["scenario"],
        row["mode"], row["engine"], format_figure(row["value"], row["unit"]),
        format_figure(row["latency"], row["latency_unit"]),
        format_figure(row["limit"], row["limit_unit"]),
        format_figure(row["actual_s"], "s"),
    ]  # fmt: skip
    return f"| {' | '.join(escape(str(cell or '')) for cell in cells)} |"


def format_figure(value: float | None, unit: str | None) -> str:
    return "" if value is None else f"{value:,.6g} {unit}"


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    marked = "".join(f"\\{c}" if c in "\\`*_{}[]<>|#~" else c for c in text)
    return " ".join(marked.split())


REPORTER = GithubReporter()
