"""What people read of ``pytest-mlperf explain``: a run in full, or a table of many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.commands.explanation import details
from pytest_mlperf.commands.explanation import table
from tests.support import logs
from tests.support.endpoints import make_result
from tests.support.explaining import Capture
from tests.support.explaining import explain_json
from tests.support.explaining import explain_text
from tests.support.explaining import run_of
from tests.support.judging import FEW_LATE
from tests.support.judging import SLOW


def process(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process of its own."""
    code = "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "explain", *map(str, words)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, timeout=300
    )


def test_an_inferred_run_is_marked(tmp_path: Path, capsys: Capture) -> None:
    """In the JSON, in the headline and in the table."""
    logs.performance(run_of(tmp_path), "SingleStream")
    logs.performance(run_of(tmp_path, "SingleStream"), "SingleStream")
    _, (first, _) = explain_json(capsys, tmp_path)
    _, shown = explain_text(capsys, run_of(tmp_path))
    _, table = explain_text(capsys, tmp_path)

    assert (first["scenario"], first["inferred"]) == ("Offline", "SingleStream")
    assert "under v6.1, inferred from SingleStream" in shown
    assert "Offline inferred" in table
    assert "2 VALID (1 inferred)" in table


def test_one_run_shows_failures_in_full_and_first(
    tmp_path: Path, capsys: Capture
) -> None:
    """Found, should be, where and what to do next; passed rules take a line."""
    folder = logs.performance(run_of(tmp_path, "Server"), "Server", latencies=SLOW)
    code, shown = explain_text(capsys, folder)
    lines = shown.splitlines()
    at = next(i for i, line in enumerate(lines) if "FAIL    latency_bound" in line)

    assert code == 1
    assert lines[0].startswith("INVALID  resnet50 Server performance under v6.1")
    assert "queries/s  (result_completed_samples_per_sec)" in lines[1]
    assert "p99 latency" in shown
    assert "of 15 ms allowed" in shown
    assert [line.split()[0] for line in lines[at + 1 : at + 5]] == [
        "found",
        "should",
        "where",
        "do",
    ]
    assert "lower target_qps from" in shown
    assert at < next(i for i, line in enumerate(lines) if line.startswith("  ok"))


def test_expected_and_actual_time_are_shown(tmp_path: Path, capsys: Capture) -> None:
    """So that a run that ended early is seen at once."""
    folder = logs.performance(run_of(tmp_path, "Server"), "Server")
    _, shown = explain_text(capsys, folder)

    assert "ran 605.0 s, expected 600.0 s" in shown


def test_many_runs_make_an_aligned_table(tmp_path: Path, capsys: Capture) -> None:
    """Paths hold what differs, failures are told once, totals close."""
    for number in range(12):
        latencies = FEW_LATE if number % 4 == 0 else None
        folder = run_of(tmp_path / f"box{number:02}", "Server")
        logs.performance(folder, "Server", latencies=latencies)
    code, shown = explain_text(capsys, tmp_path)
    head, *rows = shown.split("\n\n")[0].splitlines()
    starts = {line.index("resnet50") for line in rows}

    assert code == 1
    assert {head.index("benchmark")} == starts
    assert rows[1].split()[-1] == "box01"
    assert {line.split()[0] for line in rows} == {"INVALID", "VALID"}
    assert shown.count("- early_stopping") == 1
    assert shown.endswith("12 runs under v6.1: 9 VALID, 3 INVALID\n")
    assert max(map(len, rows)) <= 80


def test_a_terminal_gets_long_paths_as_headings(make_verdict: Any) -> None:
    """400 runs read well in 80 columns; a pipe keeps a line a run."""
    long = "/tree/" + "x" * 90
    pairs = [(f"{long}{i // 4}", scenario) for i, scenario in enumerate("abcd" * 100)]
    verdicts = [
        make_verdict(folder=f"{folder}/bert-99/{scenario}/accuracy", scenario=scenario)
        for folder, scenario in pairs
    ]
    fitted = table.format_runs(verdicts, 80, color=False, fit=True)
    piped = table.format_runs(verdicts, 80, color=False, fit=False)
    headings = [line for line in fitted if line.startswith("x")]

    assert len(headings) == 100
    assert max(len(line) for line in fitted if line not in headings) <= 80
    assert sum(line.startswith("VALID") and long[6:] in line for line in piped) == 400
    assert fitted[-1] == "400 runs under v4.1: 400 VALID"


def test_a_pipe_gets_no_color_and_a_terminal_does(make_verdict: Any) -> None:
    """Codes are around words, so that columns stay aligned."""
    verdicts = [make_verdict(folder=f"/tree/{name}") for name in "ab"]
    plain = table.format_runs(verdicts, 100, color=False, fit=True)
    bright = table.format_runs(verdicts, 100, color=True, fit=True)
    bare = [line.replace("\x1b[32m", "").replace("\x1b[0m", "") for line in bright]

    assert "\x1b" not in "".join(plain)
    assert "\x1b[32m" in "".join(bright)
    assert bare == plain


def test_what_a_log_says_cannot_drive_the_terminal(make_verdict: Any) -> None:
    """Escapes of a log's text or a folder's name are shown, not sent."""
    verdict = make_verdict(benchmark="\x1b[2J", folder="/tree/\x07\udcff")
    shown = "\n".join(details.format_run(verdict, 100, color=False))

    assert "\\x1b[2J" in shown
    assert "\\x07\\xdcff" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_can_be_printed(tmp_path: Path, encoding: str) -> None:
    """A terminal without Unicode gets escapes, not a traceback."""
    folder = logs.performance(run_of(tmp_path / "größe→"), "Offline")
    ended = process(folder, LANG="C", PYTHONIOENCODING=encoding)
    data = process(folder, "--json", PYTHONIOENCODING=encoding).stdout

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert str(folder) == json.loads(data)[0]["path"]


def test_results_of_endpoints_stand_in_the_same_table(
    tmp_path: Path, capsys: Capture
) -> None:
    """Beside LoadGen's, with the same columns and one exit code."""
    logs.performance(run_of(tmp_path, "Offline"), "Offline")
    make_result(tmp_path / "gpt-oss-120b/Server")
    code, table_text = explain_text(capsys, tmp_path)
    rows = [
        line.split() for line in table_text.splitlines() if line.startswith("VALID")
    ]

    assert code == 0
    assert [row[1:3] for row in rows] == [
        ["gpt-oss-120b", "Server"],
        ["gpt-oss-120b", "Server"],
        ["resnet50", "Offline"],
    ]
    assert "3 runs under v6.1: 3 VALID" in table_text
