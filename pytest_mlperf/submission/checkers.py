"""A tree as checkers see it: our own, and the official one where it is at hand."""

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
    from pytest_mlperf.submission.result_files import Place

TOOLS = ("", "tools/submission")
"""Where the checker lies below the folder that is named."""
SUMMARY = re.compile(r"(SUMMARY: .*|Results=\d+.*)")
ERROR = re.compile(r"\bERROR\] (.*)")
TIMEOUT_S = 600
MOST_LINES = 20
"""Problems that one checker may fill a terminal with."""


def check(root: Path, round_name: str, checker: Path | None) -> tuple[list[str], bool]:
    """Return what the checkers say, a line each, and whether all are content."""
    from pytest_mlperf.core.submission.check import check_tree

    problems = [f"submit check: {one}" for one in check_tree(root, round_name)]
    more = f"all of them: pytest-mlperf submit check {root} --round {round_name}"
    said = first(problems, more) or ["submit check: no problem found"]
    if checker is None:
        return said, not problems
    lines, good = official(root, round_name, checker)
    *errors, summary = lines
    return [*said, *first(errors), summary], good and not problems


def faulty(present: Tree, place: Place) -> str:
    """Return what is wrong with the files of a result; empty where nothing is."""
    from pytest_mlperf.core.submission.check import result_problems

    own = [f"{p.relative_to(place.root).as_posix()}/" for p in place.folders()]
    for result in present.results:
        if result.names == place.names:
            for problem in result_problems(present, result):
                if any(f"{problem.path}/".startswith(path) for path in own):
                    return str(problem)
    return ""


def first(lines: list[str], more: str = "") -> list[str]:
    """Return the first lines of many, and how many there are besides."""
    if len(lines) <= MOST_LINES:
        return lines
    rest = f"... and {len(lines) - MOST_LINES} more"
    return [*lines[:MOST_LINES], f"{rest}; {more}" if more else rest]


def official(root: Path, round_name: str, checker: Path) -> tuple[list[str], bool]:
    """Return the summary and errors of the official checker, and if it is content.

    It calls an empty tree fine, so that content asks for at least one result.
    """
    command, folder = command_of(checker)
    if not command:
        absent = f"{checker} has no tools/submission/submission_checker"
        remedy = "give a clone of mlcommons/inference with --mlperf-checker DIR"
        return [f"official checker: {absent}; {remedy}"], False
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
    told = f"official checker ({round_name}): {summary or 'no summary'}"
    return [*errors, f"{told}; {len(rows)} results"], not done.returncode and bool(rows)


def command_of(checker: Path) -> tuple[list[str], Path]:
    """Return the arguments that start a checker, and where; none if it is not there."""
    for name in TOOLS:
        folder = checker.resolve() / name
        if (folder / "submission_checker" / "main.py").is_file():
            return ["-m", "submission_checker.main"], folder
        if (folder / "submission_checker.py").is_file():
            return ["submission_checker.py"], folder
    return [], checker
