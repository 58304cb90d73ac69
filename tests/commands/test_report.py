"""``pytest-mlperf report``: of a session, and of any tree of logs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.results import FILE
from pytest_mlperf.reporting.results import ResultsWriter
from tests.support.html_pages import needs_extra
from tests.support.html_pages import read_page
from tests.support.logs import STORIES
from tests.support.logs import performance


@needs_extra
def test_any_tree_of_logs_becomes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Logs are judged as by explain, and their latencies plotted."""
    performance(tmp_path / "resnet50" / "Server" / "run_1", "Server",
                **STORIES["Server"])  # fmt: skip
    output = tmp_path / "mine.html"

    assert main(["report", "html", str(tmp_path), "-o", str(output)]) == 0
    found = read_page(output.read_text(encoding="utf-8"))

    assert "1 VALID" in found.text
    assert "run-1-1" in found.plots
    assert str(output) in capsys.readouterr().out


@needs_extra
def test_a_sessions_report_lies_beside_its_results(
    tmp_path: Path, make_verdict: Callable[..., Verdict]
) -> None:
    """A folder with results.jsonl is a session, with what it recorded."""
    writer = ResultsWriter(tmp_path / FILE)
    writer.open({"started": "2026-01-01T00:00:00+00:00"})
    writer.add(Record("a::b", "passed", {}, make_verdict(labels=("fast",))))
    writer.close(exitstatus=0, interrupted=False, selected=1)

    assert main(["report", "html", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")

    assert "VALID (fast)" in text


@needs_extra
def test_a_folder_without_runs_is_an_error_in_the_report(tmp_path: Path) -> None:
    """As explain has it: what was looked for, and where."""
    output = tmp_path / "x.html"

    assert main(["report", "html", str(tmp_path), "-o", str(output)]) == 0
    assert "1 ERROR" in read_page(output.read_text(encoding="utf-8")).text


@needs_extra
def test_a_session_without_items_has_nothing_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written, the exit code is 2 and the text says what to name."""
    writer = ResultsWriter(tmp_path / FILE)
    writer.open({"started": "2026-01-01T00:00:00+00:00"})
    writer.close(exitstatus=5, interrupted=False, selected=0)

    assert main(["report", "html", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("package", ["jinja2", "vl_convert"])
def test_without_the_extra_the_command_names_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
) -> None:
    """The remedy is the pip line."""
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed

    assert main(["report", "html", str(tmp_path)]) == 2
    assert "pip install 'pytest-mlperf[html]'" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_no_page_with_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name in a CI job would look like a report."""
    output = tmp_path / "report.html"
    status = main(["report", "html", str(tmp_path / "lates"), "-o", str(output)])

    assert status == 2
    assert "lates: no such file or folder; name a session's" in capsys.readouterr().err
    assert not output.exists()
