"""The report's plots: their points are what logs, samplers and records hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.power.figures import read_window
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.html import charts
from pytest_mlperf.reporting.html import query_charts
from pytest_mlperf.reporting.html.numbers import format_number
from pytest_mlperf.reporting.html.run_files import RunFiles
from pytest_mlperf.reporting.html.run_files import read_run_files
from pytest_mlperf.reporting.query_record import QueryRecord
from tests.support.logs import STORIES
from tests.support.logs import performance
from tests.support.power_sessions import stamp

Make = Callable[..., Verdict]


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
