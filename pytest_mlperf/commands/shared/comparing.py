"""``pytest-mlperf report compare OLD NEW…``: what became faster, and what slower."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_mlperf.commands.shared.arguments import parse_share
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.core.comparison import CellComparison
from pytest_mlperf.core.comparison import compare_sessions
from pytest_mlperf.core.comparison import list_unselected
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import find_file
from pytest_mlperf.reporting.results import read_results

KIND = "compare"
SLOWER, UNREADABLE, INCONCLUSIVE = 1, 2, 3
"""Exit codes beside 0: a cell is slower than allowed; no session; no answer."""


def add_kind(kinds: Any) -> None:
    """Add the kind to argparse's sub-parsers."""
    text = (
        "finished sessions against an earlier one, cell by cell: ratio of speeds, and "
    )
    text += "whether it is more than noise"
    parser = kinds.add_parser(KIND, help=text, description=text)
    paths = f"a session's reports folder, or its {FILE}"
    parser.add_argument("old", type=Path, metavar="OLD", help=paths)
    parser.add_argument("new", nargs="+", type=Path, metavar="NEW", help="the same")
    parser.add_argument("--fail-below", type=parse_share, metavar="RATIO",
                        help="exit with 1 where a cell's speed is below this share of "
                        "the earlier one by more than noise, with 3 where a cell has "
                        "no answer")  # fmt: skip
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object a cell"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line a cell and return the exit code."""
    try:
        files = list(map(find_file, (arguments.old, *arguments.new)))
        if absent := [file for file in files if not file.is_file()]:
            raise ValueError(f"{absent[0]}: no such file")
        old, *newer = [read_results(file, allow_partial=True) for file in files]
    except (OSError, ValueError) as error:
        return _refuse(f"{error}; name sessions' reports folders, or their {FILE}")
    found = [one for new in newer for one in compare_sessions(old, new)]
    if not found:
        return _refuse(f"no performance run in {', '.join(map(str, arguments.new))}")
    for one in found:
        print_text(format_json(one) if arguments.json else str(one))
    for file, new in zip(arguments.new, newer, strict=True):
        if names := list_unselected(old, new):
            print_text(f"not run in {file}: {', '.join(names)}", error=True)
    return choose_exit_code(found, arguments.fail_below)


def _refuse(text: str) -> int:
    print_text(f"pytest-mlperf report {KIND}: {text}", error=True)
    return UNREADABLE


def format_json(comparison: CellComparison) -> str:
    """Return a comparison as one line of JSON."""
    return json.dumps({**asdict(comparison), "change": comparison.change.value})


def choose_exit_code(found: list[CellComparison], least: float | None) -> int:
    """Return what a gate ends with; 0 where nothing is gated."""
    if least is None:
        return 0
    if any(one.is_below(least) for one in found):
        return SLOWER
    return 0 if all(one.has_answer for one in found) else INCONCLUSIVE
