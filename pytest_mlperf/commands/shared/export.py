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


def add_formats(kinds: Any, besides: str) -> None:
    """Add each format but one to argparse's sub-parsers."""
    for name in list_formats():
        if name == besides:
            continue
        text = f"{name}: the runs of finished sessions"
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
        try:
            session = read_results(file, allow_partial=True)
            written = reporter.write(session, arguments.output or file.parent)
        except (OSError, ValueError) as error:
            return _refuse(f"{file}: {error}")
        partial = " (partial: interrupted)" * session.is_interrupted
        print_text(f"report: {written or 'nothing to show'}{partial}")
    return 0


def _refuse(text: str) -> int:
    print_text(f"pytest-mlperf report: {text}", error=True)
    return 2
