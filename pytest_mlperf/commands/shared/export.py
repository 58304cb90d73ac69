"""Exports of finished sessions, for ``pytest-mlperf report FORMAT PATH…``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.reporting.formats import list_formats
from pytest_mlperf.reporting.formats import load_export
from pytest_mlperf.reporting.results import find_file
from pytest_mlperf.reporting.results import read_results

FORMATS = {
    "csv": "results.csv: a line an item, with result, limit, rules, cause and build",
    "github": "summary.md: a table of the verdicts in Markdown",
    "openmetrics": "results.prom: gauges of judged runs as OpenMetrics text",
    "opentelemetry": "results.otlp.json: gauges as OTLP's JSON; sent to a receiver too"
    " where OTEL_EXPORTER_OTLP_ENDPOINT names one",
    "parquet": "results.parquet: the columns of results.csv, typed; needs pyarrow",
}
"""What help says of each format."""


def add_formats(kinds: Any, besides: str) -> None:
    """Add each format but one to argparse's sub-parsers."""
    for name in list_formats():
        if name == besides:
            continue
        text = FORMATS.get(name, f"finished sessions as {name}")
        parser = kinds.add_parser(name, help=text, description=text)
        text = "a session's reports folder, or its results.jsonl"
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=text)
        text = "folder to write to (default: each session's own)"
        parser.add_argument("-o", "--output", type=Path, metavar="DIR", help=text)


def export_sessions(arguments: argparse.Namespace) -> int:
    """Write a file for each session, print its path and return the exit code."""
    reporter = load_export(arguments.kind)
    if arguments.output and len(arguments.paths) > 1:
        return _refuse("--output takes one session; name one PATH, or leave it out")
    for path in arguments.paths:
        file = find_file(path)
        if not file.is_file():
            return _refuse(
                f"{file}: no such file; name a session's reports folder, such as "
                "reports/latest, or its results.jsonl"
            )
        folder = arguments.output or file.parent
        try:
            session = read_results(file, allow_partial=True)
        except (OSError, ValueError) as error:
            return _refuse(str(error))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written = reporter.write(session, folder)
        except (OSError, ValueError) as error:
            return _refuse(f"{arguments.kind} in {folder}: {error}")
        partial = " (partial: interrupted)" * session.is_interrupted
        print_text(f"report: {written or 'nothing to show'}{partial}")
    return 0


def _refuse(text: str) -> int:
    print_text(f"pytest-mlperf report: {text}", error=True)
    return 2
