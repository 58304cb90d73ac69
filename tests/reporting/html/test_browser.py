"""The report in a real browser: plots are drawn, the table sorts and filters."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.page import ReportInput
from pytest_mlperf.reporting.html.page import find_missing_package
from pytest_mlperf.reporting.html.page import render_report
from tests.support.html_pages import read_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the PATH"),
    pytest.mark.skipif(
        find_missing_package() is not None, reason="needs the extra html"
    ),
]
PROBE = """
<script>
const heads = [...document.querySelectorAll("#results thead th")];
const names = () => [...document.querySelectorAll("#results tbody tr")]
  .filter((row) => !row.hidden).map((row) => row.cells[0].textContent.trim());
const seen = { first: names() };
heads[2].firstElementChild.click();
seen.ascending = names();
seen.sorted = heads[2].getAttribute("aria-sort");
heads[2].firstElementChild.click();
seen.descending = names();
filter.value = "queries b";
filter.dispatchEvent(new Event("input"));
seen.filtered = names();
seen.shown = document.getElementById("shown").textContent;
seen.open = document.getElementById("run-2").open;
const note = document.createElement("script");
note.type = "application/json";
note.id = "seen";
note.textContent = JSON.stringify(seen);
document.body.append(note);
</script>
"""


def browse(page: Path, *options: str) -> str:
    """Return the document after its scripts have run.

    The browser's clock is a virtual one that may run out before the plots are drawn:
    then it is started again.
    """
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu",
        f"--user-data-dir={page.with_name('profile')}", "--virtual-time-budget=20000",
        "--dump-dom", *options, f"{page.as_uri()}#run-2",
    ]  # fmt: skip
    text = ""
    for _ in range(3):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=True
        )
        text = done.stdout
        if "<svg" in text:
            break
    return text


@pytest.fixture
def page(tmp_path: Path, make_verdict: Callable[..., Verdict]) -> Path:
    """A report of three results of one scenario."""
    limit = Metric("bound", 130.0, "ms")
    verdict = make_verdict(
        percentile=0.99, limit=limit, at_percentile=Metric("p99", 101.0, "ms")
    )
    verdicts = [
        replace(verdict, benchmark=name, metric=Metric("rate", rate, "queries/s"))
        for name, rate in (("a", 9.0), ("b", 1000.0), ("c", 70.0))
    ]
    records = [Record(v.benchmark, "passed", {}, v) for v in verdicts]
    text = render_report(ReportInput("results", {}, records))
    path = tmp_path / "report.html"
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    return path


def test_the_table_sorts_by_value_and_filters_by_words(page: Path) -> None:
    """9, 70, 1,000: numbers, not texts; the linked run is open."""
    seen: dict[str, Any] = read_page(browse(page)).plots["seen"]

    assert seen == {
        "first": ["a", "b", "c"],
        "ascending": ["a", "c", "b"],
        "sorted": "ascending",
        "descending": ["b", "c", "a"],
        "filtered": ["b"],
        "shown": "1 of 3",
        "open": True,
    }


@pytest.mark.parametrize("options", [(), ("--window-size=390,844",)])
def test_plots_are_drawn(page: Path, options: tuple[str, ...]) -> None:
    """The overview is an SVG with its bars' texts, on a desktop and on a phone."""
    found = read_page(browse(page, *options))

    assert "svg" in found.tags
    assert found.text.count("101 of 130 ms") == 3
    assert json.dumps(found.links) == "[]"
