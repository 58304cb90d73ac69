"""Runs our own checker on a tree, and the official one if a clone is given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mlperf.core.submission.check import Tree
    from pytest_mlperf.submission.result_files import ResultPlace

TOOLS = ("", "tools/submission")
"""Folders of the checker, below the clone."""
SUMMARY = re.compile(r"(SUMMARY: .*|Results=\d+.*)")
ERROR = re.compile(r"\bERROR\] (.*)")
TIMEOUT_S = 600
MOST_LINES = 20
"""Most problems of one checker that are printed."""


def run_checkers(
    root: Path, round_name: str, checker: Path | None
) -> tuple[list[str], bool]:
    """Return the checkers' output, and whether they found no problem."""
    from pytest_mlperf.core.submission.check import check_tree

    problems = [f"submit check: {one}" for one in check_tree(root, round_name)]
    more = f"all of them: pytest-mlperf submit check {root} --round {round_name}"
    own = limit_lines(problems, more) or ["submit check: no problem found"]
    if checker is None:
        return own, not problems
    lines, good = run_official(root, round_name, checker)
    *errors, summary = lines
    return [*own, *limit_lines(errors), summary], good and not problems


def find_fault(present: Tree, place: ResultPlace) -> str:
    """Return the first problem of a result's own files; empty if there is none."""
    from pytest_mlperf.core.submission.check import result_problems

    own = [f"{p.relative_to(place.root).as_posix()}/" for p in place.folders()]
    for result in present.results:
        if result.names == place.names:
            for problem in result_problems(present, result):
                if any(f"{problem.path}/".startswith(path) for path in own):
                    return str(problem)
    return ""


def limit_lines(lines: list[str], more: str = "") -> list[str]:
    """Return the first lines, and the number of the others."""
    if len(lines) <= MOST_LINES:
        return lines
    rest = f"... and {len(lines) - MOST_LINES} more"
    return [*lines[:MOST_LINES], f"{rest}; {more}" if more else rest]


def run_official(root: Path, round_name: str, checker: Path) -> tuple[list[str], bool]:
    """Return the errors and summary of the official checker, and whether it passed.

    The checker accepts an empty tree; passing here takes at least one result.
    """
    if absence := find_absence(checker):
        return [f"official checker: {absence}"], False
    command, folder = find_command(checker)
    with tempfile.TemporaryDirectory(prefix="pytest-mlperf-") as name:
        table = Path(name) / "summary.csv"
        words = ["--input", str(root.resolve()), "--version", round_name]
        try:
            done = subprocess.run(
                [sys.executable, *command, *words, "--csv", str(table)],
                cwd=folder,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            text = f"official checker: no end after {TIMEOUT_S} s; run it by itself"
            return [text], False
        rows = table.read_text("utf-8").splitlines()[1:] if table.exists() else []
    text = done.stdout + done.stderr
    if "No module named 'yaml'" in text:
        return ["official checker: needs PyYAML: pip install pyyaml"], False
    errors = [f"official checker: {found}" for found in ERROR.findall(text)]
    summary = "; ".join(SUMMARY.findall(text))
    if not summary and not errors:
        errors = [f"official checker: ended with {done.returncode}: {text[-500:]}"]
    last = f"official checker ({round_name}): {summary or 'no summary'}"
    return [*errors, f"{last}; {len(rows)} results"], not done.returncode and bool(rows)


def find_absence(checker: Path | None) -> str:
    """Return what a folder lacks to be the official checker's clone; else nothing."""
    if checker is None or find_command(checker)[0]:
        return ""
    return (
        f"{checker} has no tools/submission/submission_checker; give a clone of "
        "mlcommons/inference with --mlperf-checker DIR"
    )


def find_command(checker: Path) -> tuple[list[str], Path]:
    """Return a checker's command and its folder; an empty command if it is absent."""
    for name in TOOLS:
        folder = checker.resolve() / name
        if (folder / "submission_checker" / "main.py").is_file():
            return ["-m", "submission_checker.main"], folder
        if (folder / "submission_checker.py").is_file():
            return ["submission_checker.py"], folder
    return [], checker
