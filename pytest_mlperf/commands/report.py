"""``pytest-mlperf report KIND PATH…``: reports of sessions and of LoadGen's logs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from pytest_mlperf.commands.explain import CODES
from pytest_mlperf.commands.explain import Overrides
from pytest_mlperf.commands.explain import find_all
from pytest_mlperf.commands.explain import judge_runs
from pytest_mlperf.commands.shared import comparing
from pytest_mlperf.commands.shared import virtualclient
from pytest_mlperf.commands.shared.export import add_formats
from pytest_mlperf.commands.shared.export import export_sessions
from pytest_mlperf.commands.shared.output import print_text
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.reporting.html.page import EXTRA
from pytest_mlperf.reporting.html.page import ReportInput
from pytest_mlperf.reporting.html.page import find_missing_package
from pytest_mlperf.reporting.html.page import render_report
from pytest_mlperf.reporting.html.reporter import FILE
from pytest_mlperf.reporting.html.reporter import describe_session
from pytest_mlperf.reporting.results import FILE as RESULTS
from pytest_mlperf.reporting.results import read_results

HELP = "make a report of a session, or of any tree of LoadGen logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    text = "one HTML file with the table, every rule and plots"
    html = kinds.add_parser("html", help=text, description=text)
    html.add_argument("paths", nargs="+", type=Path, metavar="PATH",
                      help="a session's folder or results.jsonl, or a tree of LoadGen "
                      "logs, which is judged as by explain")  # fmt: skip
    html.add_argument("-o", "--output", type=Path, metavar="FILE",
                      help=f"where to write it (default: {FILE} in the session's "
                      "folder, or else in the current one)")  # fmt: skip
    comparing.add_kind(kinds)
    virtualclient.add_kind(kinds)
    add_formats(kinds, besides=virtualclient.KIND)


def run(arguments: argparse.Namespace) -> int:
    """Write the report and print its path; 2 where there is nothing to report."""
    if arguments.kind == comparing.KIND:
        return comparing.run(arguments)
    if arguments.kind == virtualclient.KIND:
        return virtualclient.run(arguments)
    if arguments.kind != "html":
        return export_sessions(arguments)
    if absent := [path for path in arguments.paths if not path.exists()]:
        return _refuse(
            f"{absent[0]}: no such file or folder; name a session's reports folder, "
            "such as reports/latest, or a tree of LoadGen's logs"
        )
    if package := find_missing_package():
        return _refuse(f"a report needs {package}: {EXTRA}")
    try:
        report = read_report_input(arguments.paths)
    except (OSError, ValueError) as error:
        return _refuse(str(error))
    if not report.records:
        places = ", ".join(map(str, arguments.paths))
        return _refuse(
            f"no run found in {places}; name a session's folder or a tree of logs"
        )
    output = arguments.output or _choose_output(arguments.paths)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render_report(report), encoding="utf-8")
    print_text(f"report: {output}")
    return 0


def _refuse(text: str) -> int:
    print_text(text, error=True)
    return 2


def read_report_input(paths: Sequence[Path]) -> ReportInput:
    """Return a session as it was recorded, or the verdicts of the logs that are there.

    Raises ``ValueError`` for a results.jsonl that cannot be read.
    """
    if len(paths) == 1 and (session := find_session(paths[0])):
        results = read_results(session, allow_partial=True)
        return describe_session(results, session.parent)
    verdicts = list(judge_runs(find_all(paths), Overrides()))
    records = [
        Record(v.folder, "passed" if CODES[v.outcome] == 0 else "failed", {}, v)
        for v in verdicts
    ]
    about = {"logs": ", ".join(map(str, paths)), "runs": str(len(records))}
    return ReportInput("MLPerf Inference logs, judged", about, records)


def find_session(path: Path) -> Path | None:
    """Return the results.jsonl that a path means, if it is a session's."""
    if path.name == RESULTS:
        return path
    return path / RESULTS if (path / RESULTS).is_file() else None


def _choose_output(paths: Sequence[Path]) -> Path:
    session = find_session(paths[0]) if len(paths) == 1 else None
    return session.with_name(FILE) if session else Path(FILE)
