"""The HTML report: every number from its source, and nothing that is fetched."""

from __future__ import annotations

import gzip
import json
import sys
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.power.figures import read_window
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import OTHERS
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html import charts
from pytest_mlperf.reporting.html import query_charts
from pytest_mlperf.reporting.html.numbers import format_number
from pytest_mlperf.reporting.html.page import ReportInput
from pytest_mlperf.reporting.html.page import render_report
from pytest_mlperf.reporting.html.reporter import HTML
from pytest_mlperf.reporting.html.run_files import RunFiles
from pytest_mlperf.reporting.html.run_files import read_run_files
from pytest_mlperf.reporting.query_record import QueryRecord
from tests.support.html_pages import needs_extra
from tests.support.html_pages import read_page
from tests.support.logs import STORIES
from tests.support.logs import performance
from tests.support.power_sessions import stamp

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


def test_latencies_are_the_logs(tmp_path: Path, make_verdict: Make) -> None:
    """The plot's points are LoadGen's percentiles in milliseconds, with the limit."""
    folder = performance(tmp_path / "run", "Server", **STORIES["Server"])
    files = read_run_files(folder)
    verdict = make_verdict(limit=Metric("bound", 15.0, "ms"))
    (spec,) = charts.chart_latencies(files, verdict)
    log = (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8")

    assert [row["percentile"] for row in spec["data"]["values"]] == [
        "p50", "p90", "p95", "p97", "p99", "p99.9",
    ]  # fmt: skip
    for row, share in zip(
        spec["data"]["values"], files.latencies["latency"], strict=True
    ):
        value = round(row["ms"] * 1e6)
        assert f'"result_{share}_percentile_latency_ns", "value": {value},' in log
    assert spec["layer"][1]["encoding"]["y"]["datum"] == 15.0


@pytest.mark.parametrize(
    ("scenario", "titles"), [("SingleStream", [True]), ("MultiStream", [False, True])]
)
def test_a_stream_s_estimate_stands_beside_the_latency_that_it_is_of(
    tmp_path: Path, make_verdict: Make, scenario: str, titles: list[bool]
) -> None:
    """MultiStream's is of whole queries, not of their samples."""
    files = read_run_files(performance(tmp_path / "run", scenario))
    verdict = make_verdict(
        scenario=scenario, limit=None, metric=Metric("p99", 12.25, "ms")
    )
    specs = charts.chart_latencies(files, verdict)

    assert ["12.25" in json.dumps(spec) for spec in specs] == titles


def test_a_folder_that_is_gone_has_no_plots(tmp_path: Path) -> None:
    """A report of old results is a report without plots."""
    assert read_run_files(tmp_path / "nothing") == RunFiles()


def test_throttled_seconds_are_marked(tmp_path: Path) -> None:
    """The samples of the device are plotted as they were written; half a line ends."""
    folder = performance(tmp_path / "run", "Server", **STORIES["Server"])
    samples = [
        {"at_s": 0.0, "power_w": 600.5, "sm_mhz": 1980, "held_back": []},
        {
            "at_s": 1.0,
            "phase": "run",
            "power_w": 699.0,
            "sm_mhz": 1700,
            "held_back": ["power cap"],
        },
    ]
    written = [json.dumps(sample) for sample in samples]
    (folder / "device.jsonl").write_text("\n".join([*written, '{"at_s": 2']))
    power, clock = charts.chart_device(read_run_files(folder))

    shade, lines = power["layer"]

    assert [row["value"] for row in lines["data"]["values"]] == [600.5, 699.0]
    assert shade["data"]["values"] == [{"from": 1.0, "to": 1.0}]
    assert "points are throttled seconds" in power["title"]
    throttled = [row.get("throttled") for row in clock["layer"][1]["data"]["values"]]
    assert throttled == [None, "power cap"]


def test_a_long_run_has_no_more_points_than_a_short_one() -> None:
    """Ten minutes are 60 points; none is computed, and no throttled second is lost."""
    devices = [
        {"at_s": float(at), "power_w": 500.0 + at, "held_back": ["heat"] * (at == 7)}
        for at in range(600)
    ]
    cpus = [{"at_s": at + 1.0, "others_share": 0.5 * (at == 8)} for at in range(600)]
    files = RunFiles(device_samples=tuple(devices), cpu_samples=tuple(cpus))
    (power,) = charts.chart_device(files)
    (load,) = charts.chart_other_load(files)
    rows, bars = power["layer"][1]["data"]["values"], load["data"]["values"]

    assert len(rows) == len(bars) == 60
    assert rows[0] == {"at": 7.0, "value": 507.0, "throttled": "heat"}
    assert rows[1] == {"at": 10.0, "value": 510.0}
    assert bars[:2] == [
        {"from": 0.0, "at": 10.0, "share": 0.5},
        {"from": 10.0, "at": 20.0, "share": 0.0},
    ]


def test_power_at_the_wall_is_plotted_with_its_average(tmp_path: Path) -> None:
    """The readings while LoadGen measured, which are those of the verdict's average."""
    folder = performance(tmp_path / "run", "Server", **STORIES["Server"])
    begin, _ = read_window(Log.read(folder))
    readings = [(-1.0, 90.0), (1.0, 200.0), (2.0, 0.0), (3.0, 260.0), (9e6, 90.0)]
    lines = [
        f"Time,{stamp(begin + at)},Watts,{watts},Volts,230,Amps,1,PF,1,Mark,x\n"
        for at, watts in readings
    ]
    (folder / "spl.txt").write_text("".join(lines), "utf-8")
    (chart,) = charts.chart_meter(read_run_files(folder))
    (folder / "spl.txt").write_text("Time,never,Watts,1\n", "utf-8")

    assert chart["data"]["values"] == [
        {"at_s": 1.0, "watts": 200.0},
        {"at_s": 3.0, "watts": 260.0},
    ]
    assert chart["layer"][1]["encoding"]["y"]["datum"] == 230.0
    assert "average of 230.0 W" in chart["title"]
    assert charts.chart_meter(read_run_files(folder)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (12345.678, "12,346"),
        (130.0, "130"),
        (9.9324, "9.932"),
        (0.01234, "0.0123"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    """Four to five digits, thousands apart."""
    assert format_number(value) == text


def test_the_probes_curve_has_its_trials_and_the_runs_own_load(
    make_verdict: Make,
) -> None:
    """What a trial was disturbed by stands in its own series; no figure is new."""
    trials = (LoadTrial(10.0, 5.0, 0.5), LoadTrial(20.0, 5.0, 1.5, is_disturbed=True))
    verdict = make_verdict(
        metric=Metric("k", 15.0, "queries/s"),
        at_percentile=Metric("k", 6.0, "ms"),
        limit=Metric("k", 15.0, "ms"),
    )
    (spec,) = charts.chart_trials(RunFiles(trials=trials), verdict)

    assert [(r["qps"], r["share"], r["what"]) for r in spec["data"]["values"]] == [
        (10.0, 0.5, "trial"),
        (20.0, 1.5, "disturbed"),
        (15.0, 0.4, "this run"),
    ]
    assert charts.chart_trials(RunFiles(), verdict) == []


def test_plots_of_queries_hold_what_the_record_holds(
    make_verdict: Make,
) -> None:
    """Completed samples add up; batches are counted once; a sampled record says so."""
    count = 100
    at = np.arange(count, dtype=np.int64) * 10_000_000
    columns = {
        "scheduled_ns": at, "issued_ns": at,
        "started_ns": at // 20_000_000 * 20_000_000,
        "first_token_ns": np.full(count, -1), "completed_ns": at + 30_000_000,
        "query": np.arange(count), "samples": np.ones(count, np.int64),
        "tokens": np.full(count, -1), "batch": np.full(count, 2),
        "stream": np.zeros(count, np.int64), "device": np.zeros(count, np.int64),
    }  # fmt: skip
    record = QueryRecord(columns, every=3)
    specs = query_charts.chart_queries(record, make_verdict())
    rows = {spec["title"].partition(" (")[0]: spec["data"]["values"] for spec in specs}

    assert all(spec["title"].endswith("(of one in 3)") for spec in specs)
    assert rows["batch sizes"] == [{"size": 2, "n": 3 * count // 2}]
    width = 1.02 / len(rows["throughput over time"])
    done = sum(row["rate"] for row in rows["throughput over time"]) * width
    assert done == pytest.approx(3 * count, rel=0.01)
    latency = rows["latency over time, by when queries were due"]
    assert {row["ms"] for row in latency} == {30.0}
    assert query_charts.chart_queries(None, make_verdict()) == []
