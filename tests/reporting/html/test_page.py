"""The HTML report: every number from its source, and nothing that is fetched."""

from __future__ import annotations

import gzip
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import OTHERS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html.page import ReportInput
from pytest_mlperf.reporting.html.page import render_report
from pytest_mlperf.reporting.html.reporter import HTML
from tests.support.html_pages import needs_extra
from tests.support.html_pages import read_page
from tests.support.logs import STORIES
from tests.support.logs import performance

Make = Callable[..., Verdict]
VALUES = st.floats(1e-3, 1e9)
PASSED = Check("latency", Status.PASS, "9 ms", "15 ms", "summary:7")


def record_of(verdict: Verdict, outcome: str = "passed", reason: str = "") -> Record:
    """Return the record of an item that ended with a verdict."""
    return Record(f"suite::{verdict.benchmark}", outcome, {}, verdict, reason)


def page_of(*records: Record) -> str:
    return render_report(ReportInput("results", {"system": "a machine"}, records))


@needs_extra
@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=4))
def test_every_number_of_the_table_is_its_verdicts(
    figures: list[tuple[float, float, float]],
) -> None:
    """Result, latency and limit are there to the last bit; no other number is."""
    verdicts = [
        Verdict(
            benchmark=f"bert-{number}", scenario="Server", engine="null",
            mode="performance", round="v4.1", checks=(PASSED,),
            metric=Metric("rate", rate, "queries/s"), percentile=0.99,
            limit=Metric("bound", bound, "ms"),
            at_percentile=Metric("p99", latency, "ms"),
        )
        for number, (rate, latency, bound) in enumerate(figures)
    ]  # fmt: skip
    found = read_page(page_of(*map(record_of, verdicts)))
    shares = [row["share"] for row in found.plots["overview-1"]["data"]["values"]]

    assert found.numbers == [value for row in figures for value in row]
    assert shares == [latency / bound for _, latency, bound in figures]


@needs_extra
def test_runs_of_one_name_keep_their_own_bars_and_name_their_systems(
    make_verdict: Make,
) -> None:
    """Vega adds up bars of one name: 60 % and 70 % of a limit would be 130 %."""
    bound, figure = Metric("bound", 10.0, "ms"), Metric("p99", 6.0, "ms")
    one = make_verdict(
        percentile=0.99, limit=bound, at_percentile=figure, facts={"system": "box"}
    )
    other = replace(
        one, at_percentile=Metric("p99", 7.0, "ms"), facts={"system": "tower"}
    )
    accuracy = replace(
        one, mode="accuracy", metric=Metric("F1", 90.0, "%"),
        limit=Metric("F1", 89.0, "%"), at_percentile=None,
    )  # fmt: skip
    found = read_page(page_of(*map(record_of, (one, one, other, accuracy))))
    limits, gates = (found.plots[f"overview-{n}"]["data"]["values"] for n in (1, 2))
    names = [row["run"] for row in limits]

    assert len({*names}) == 3
    assert [name.split(", ")[1] for name in names] == ["box", "box #2", "tower"]
    assert [row["share"] for row in limits] == [0.6, 0.6, 0.7]
    assert [row["length"] for row in limits] == [0.6, 0.6, 0.7]
    assert [row["share"] for row in gates] == [90.0 / 89.0]
    assert "System" in found.text


@needs_extra
def test_systems_of_several_submitters_are_named_with_them(make_verdict: Make) -> None:
    """Two of them may call theirs alike; one's own name says nothing more."""
    both = [
        make_verdict(facts={"system": "box", "submitter": name})
        for name in ("ACME", "Other")
    ]

    assert "ACME box" in page_of(*map(record_of, both))
    assert "ACME box" not in page_of(*map(record_of, both[:1] * 2))


@needs_extra
def test_a_session_that_was_copied_keeps_its_plots(
    make_verdict: Make, tmp_path: Path
) -> None:
    """The records name folders of the machine that ran; the copies lie beside them."""
    copied = tmp_path / "20261129-000000"
    performance(copied / "logs/bert/performance", "Server", **STORIES["Server"])
    verdict = make_verdict(folder="/gone/20261129-000000/logs/bert/performance")
    results = SessionResults({}, (record_of(verdict),), None)
    path = HTML.write(results, copied)

    assert path is not None
    assert "run-1-1" in read_page(path.read_text(encoding="utf-8")).plots


@needs_extra
def test_the_page_fetches_nothing_and_runs_no_text_as_a_script(
    make_verdict: Make,
) -> None:
    """Texts of errors and names are text, whatever they hold."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    check = Check(evil, Status.FAIL, evil, evil, evil, evil)
    limit = Metric("bound", 10.0, "ms")
    verdict = make_verdict(
        checks=(check,), facts={evil: evil}, benchmark=evil, folder=evil,
        percentile=0.99, limit=limit, at_percentile=limit,
    )  # fmt: skip
    plain = read_page(page_of(record_of(make_verdict(percentile=0.99, limit=limit))))
    found = read_page(page_of(record_of(verdict, "failed", evil)))

    assert found.links == []
    assert "img" not in found.tags
    assert evil in found.text
    assert found.tags.count("script") == plain.tags.count("script") + 1  # its plot
    assert found.plots["overview-1"]["data"]["values"][0]["run"].startswith(evil)


@needs_extra
def test_what_is_no_submission_result_and_what_was_disturbed_stands_above_the_table(
    make_verdict: Make,
) -> None:
    """Labels are explained, contention is a banner with the measured load."""
    verdict = make_verdict(
        labels=("embedded", "fast"), run=RunFacts(is_disturbed=True),
        facts={OTHERS: "1.20 of 2 CPUs"},
    )  # fmt: skip
    text = read_page(page_of(record_of(verdict))).text
    above = text[: text.index("Results")]

    assert "Not a submission result" in above
    assert "embedded: a small stand-in" in above
    assert "Contention:" in above
    assert "1.20 of 2 CPUs" in above
    assert "Contention" not in read_page(page_of(record_of(make_verdict()))).text


@needs_extra
def test_failed_rules_come_first_with_where_and_remedy(make_verdict: Make) -> None:
    """A reader finds the cause without scrolling."""
    failed = Check("min_duration", Status.FAIL, "2 s", "600 s", "detail:9", "run on")
    text = read_page(
        page_of(record_of(make_verdict(checks=(PASSED, failed)), "failed"))
    ).text

    assert text.index("run on") < text.index("summary:7")
    assert "1 INVALID" in text


@needs_extra
def test_items_without_a_verdict_are_listed_with_their_reason(
    make_verdict: Make,
) -> None:
    """A skipped item is not lost."""
    skipped = Record("suite::whisper", "skipped", {}, None, "no package runs it")
    text = read_page(page_of(record_of(make_verdict()), skipped)).text

    assert "suite::whisper: skipped: no package runs it" in " ".join(text.split())


@needs_extra
def test_the_library_is_inside_the_page(make_verdict: Make) -> None:
    """Vega unpacks to JavaScript; the page stays below half a megabyte with it."""
    page = page_of(record_of(make_verdict()))
    start = page.index('id="vega">') + len('id="vega">')
    library = gzip.decompress(b64decode(page[start : page.index("<", start)]))

    assert b"vegaEmbed" in library
    assert len(page) < 500_000


@needs_extra
def test_a_session_gets_its_report_and_a_partial_one_says_so(
    make_verdict: Make, tmp_path: Path
) -> None:
    """The reporter writes report.html; a killed session has no closing line."""
    session = SessionResults({"started": "now"}, (record_of(make_verdict()),), None)
    path = HTML.write(session, tmp_path)

    assert path == tmp_path / "report.html"
    assert "Partial: the session was ended" in path.read_text(encoding="utf-8")
    assert HTML.write(SessionResults({}, (), None), tmp_path) is None


@pytest.mark.parametrize("package", ["jinja2", "vl_convert"])
def test_without_the_extra_there_is_no_report(
    make_verdict: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """A session of a plain installation is not disturbed."""
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    session = SessionResults({}, (record_of(make_verdict()),), None)

    assert HTML.write(session, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
