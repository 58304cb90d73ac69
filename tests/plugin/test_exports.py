"""What a session with exports leaves for a CI: files, junit, job summary."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.newest import newest

SUITES = Path(__file__).parents[2] / "suites"
RUN = (
    str(SUITES),
    "-k",
    "resnet50 and offline and (performance or accuracy)",
    "--mlperf-duration=0.2",
    "--mlperf-engine=null",
    "--mlperf-reports=reports",
    "--junitxml=junit.xml",
    "-ojunit_logging=system-out",
)


def test_a_session_leaves_what_a_ci_shows(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cause first, figures of the passed item, properties of the whole, the summary."""
    summary = pytester.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = pytester.runpytest_subprocess(
        *RUN, "--mlperf-export=csv,openmetrics", "-n1"
    )

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["report: *results.csv", "report: *results.prom"])
    folder = pytester.path / "reports" / "latest"
    with (folder / "results.csv").open(newline="") as stream:
        rows = {row["mode"]: row for row in csv.DictReader(stream)}
    figures = {v.mode: v.metric.value for v in newest(pytester).verdicts if v.metric}
    assert {mode: float(row["value"]) for mode, row in rows.items()} == figures
    assert summary.read_text("utf-8").startswith("before\n## MLPerf: 1 of 2 VALID on ")

    suite = ET.parse(pytester.path / "junit.xml").getroot()  # noqa: S314 - our own
    (failure,) = suite.iter("failure")
    # pytest 9 puts its own word before it.
    message = failure.get("message", "").removeprefix("Failed: ")
    assert message.startswith("accuracy_acc: 0, should be at least 96.4333")
    whole = {p.get("name"): p.get("value") for p in suite.findall("*/properties/*")}
    assert whole["mlperf.rounds"] == "v6.1"
    assert whole["mlperf.system"] == rows["accuracy"]["system"]
    assert whole["mlperf.host"]
    for case in suite.iter("testcase"):
        own = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert own["mlperf.round"] == "v6.1"
        assert own["mlperf.mode"]
        assert case.get("name", "").startswith(f"test_{own['mlperf.mode']}[")
    text = "".join(one.text or "" for one in suite.iter("system-out"))
    assert f"{figures['performance']:,.10g} samples/s" in text
