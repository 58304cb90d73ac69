"""Names and values bit for bit, from NVIDIA's files and from a session."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.commands import main
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.exports.virtualclient import REPORTER
from pytest_mlperf.reporting.virtualclient import nvidia
from pytest_mlperf.reporting.virtualclient import session
from pytest_mlperf.reporting.virtualclient.metric import Generation
from pytest_mlperf.reporting.virtualclient.metric import VirtualClientMetric
from pytest_mlperf.reporting.virtualclient.metric import summarize

A100 = "DGX-A100_A100-SXM4-40GBx8"
BERT = f"{A100}_TRT-custom_k_99_9_MaxP-Server"
PAGE = """\
bert TRT-custom_k_99_9_MaxP-Offline 1 1
bert TRT-custom_k_99_9_MaxP-Server 8 15
bert TRT-custom_k_99_MaxP-Server 5 6
bert TRT-lwis_k_99_MaxP-Server 35 44
bert TRT_Triton-triton_k_99_9_MaxP-Server 1 1
bert TRT_Triton-triton_k_99_MaxP-Server 91 94
rnnt TRT-custom_k_99_MaxP-Offline 1 1
ssd-mobilenet TRT-lwis_k_99_MaxP-Offline 1 1
ssd-resnet34 TRT_Triton-triton_k_99_MaxP-Server 1 1
"""
"""Benchmark, configuration without its system, VALID runs, runs: so many give the
page's averages."""
AVERAGES = {
    "TRT-custom_k_99_9_MaxP-Server": 0.5333333333333333,
    "TRT-custom_k_99_MaxP-Server": 0.8333333333333334,
    "TRT-lwis_k_99_MaxP-Server": 0.7954545454545454,
    "TRT_Triton-triton_k_99_MaxP-Server": 0.9680851063829787,
}
OFFLINE_ACCURACY = {
    "accuracy": [
        {"name": "F1", "pass": True, "threshold": 89.96526, "value": 90.2147015680108}
    ],
    "accuracy_pass": True, "benchmark_full": "bert-99", "benchmark_short": "bert",
    "config_name": f"{A100}_TRT-custom_k_99_MaxP-Offline", "scenario": "Offline",
    "scenario_key": "result_samples_per_second", "test_mode": "AccuracyOnly",
    "summary_string": "[PASSED] F1: 90.215 (Threshold=89.965)",
}  # fmt: skip
SERVER_PERFORMANCE = {
    "benchmark_full": "bert-99.9", "benchmark_short": "bert", "config_name": BERT,
    "result_completed_samples_per_sec": 25405.6, "result_validity": "VALID",
    "scenario": "Server", "scenario_key": "result_completed_samples_per_sec",
    "test_mode": "PerformanceOnly", "summary_string": "result: 1, Result is VALID",
}  # fmt: skip


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def read_metrics(path: Path) -> dict[str, VirtualClientMetric]:
    """Return name -> metric of a summary file."""
    runs = nvidia.read_summary(path)
    return {metric.name: metric for run in runs for metric in run.list_metrics()}


def test_the_page_s_table_comes_out_of_the_harness_s_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names bit for bit, and minimum, maximum and average over the repeats."""
    expected = {}
    for line in PAGE.splitlines():
        model, config, valid, runs = line.split()
        name = f"{A100}_{config}"
        for number in range(int(runs)):
            word = "VALID" if number < int(valid) else "INVALID"
            folder = tmp_path / f"{config}-{model}" / str(number)
            text = f"result_scheduled_samples_per_sec: 4751.78, Result is {word}"
            write_json(folder / nvidia.PERFORMANCE, {name: {model: text}})
            text = "Accuracy = 91.873, Threshold = 90.783. Accuracy test PASSED."
            write_json(folder / nvidia.ACCURACY, {name: {model: text}})
        lowest = 1.0 if valid == runs else 0.0
        average = AVERAGES.get(config, 1.0) if model == "bert" else 1.0
        row = [model, f"{name}-PerformanceMode", repr(lowest), "1.0", repr(average)]
        expected[model, config] = [*row, "VALID/INVALID"]
    command = ["report", "virtualclient", str(tmp_path), "--names", "1"]
    assert main.main([*command, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    performance = [row for row in rows[1:] if row[1].endswith("-PerformanceMode")]
    accuracy = [row for row in rows[1:] if row[1].endswith("-AccuracyMode")]

    assert sorted(performance) == sorted(expected.values())
    assert {tuple(row[2:]) for row in accuracy} == {("1.0", "1.0", "1.0", "PASS/FAIL")}
    assert f"{A100}_TRT-custom_k_99_9_MaxP-Offline-AccuracyMode" in [
        row[1] for row in accuracy
    ]


@pytest.mark.parametrize(
    ("text", "passed", "ratio"),
    [
        ("Accuracy = 91.873, Threshold = 90.783. Accuracy test PASSED.", 1.0,
         1.0120066532280274),
        ("Accuracy = 91.568, Threshold = 90.783. Accuracy test PASSED.", 1.0,
         1.0086469933798177),
        ("Accuracy = 90.723, Threshold = 90.783. Accuracy test FAILED.", 0.0,
         0.99933908330854893),
    ],
)  # fmt: skip
def test_accuracy_s_values_are_virtual_client_s(
    tmp_path: Path, text: str, passed: float, ratio: float
) -> None:
    """The values that its own unit tests assert."""
    path = write_json(tmp_path / nvidia.ACCURACY, {BERT: {"bert": text}})
    metrics = read_metrics(path)

    assert metrics[f"{BERT}-AccuracyMode"].value == passed
    assert metrics[f"{BERT}-Accuracy Threshold Ratio"].value == ratio
    assert metrics[f"{BERT}-ThresholdValue"].value == 90.783
    assert metrics["AccuracyThresholdRatio_p99_9"].value == ratio


def test_performance_s_value_has_its_loadgen_key(tmp_path: Path) -> None:
    """A key with a dot is whole, and an INVALID run is 0."""
    text = "result_90.00_percentile_latency_ns: 2202969, Result is INVALID"
    path = write_json(tmp_path / nvidia.PERFORMANCE, {BERT: {"bert": text}})
    metrics = read_metrics(path)

    assert metrics[f"{BERT}-result_90.00_percentile_latency_ns"].value == 2202969
    assert metrics[f"{BERT}-PerformanceMode"].value == 0.0
    assert metrics["latency_ns_p99_9"].relativity.value == "LowerIsBetter"


def test_metadata_gives_the_short_names(tmp_path: Path) -> None:
    """With every metric of a run, and the target that the configuration names."""
    rouge = {"name": "ROUGE2", "pass": False, "threshold": 20.0, "value": 19.0}
    values = {**OFFLINE_ACCURACY, "accuracy": [*OFFLINE_ACCURACY["accuracy"], rouge]}  # type: ignore[misc]
    accuracy = read_metrics(write_json(tmp_path / "a" / nvidia.METADATA, values))
    performance = read_metrics(
        write_json(tmp_path / "p" / nvidia.METADATA, SERVER_PERFORMANCE)
    )

    assert accuracy["AccuracyMode_p99"].value == 0.0
    assert accuracy["AccuracyValue_p99"].value == 90.2147015680108
    assert accuracy["AccuracyThresholdRatio_p99"].value == pytest.approx(
        1.00277264321818, rel=1e-14
    )
    assert accuracy["AccuracyValue_p99_ROUGE2"].value == 19.0
    assert performance["PerformanceMode_p99_9"].value == 1.0
    assert performance["samples_per_second_p99_9"].value == 25405.6
    assert performance["samples_per_second_p99_9"].metadata == {
        "config_name": BERT, "benchmark_short": "bert", "benchmark_full": "bert-99.9",
        "scenario": "Server",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (nvidia.ACCURACY, "No accuracy results in PerformanceOnly mode."),
        (nvidia.PERFORMANCE, "Cannot find performance result. Maybe you are …"),
    ],
)
def test_a_run_that_was_not_made_is_left_out(
    tmp_path: Path, name: str, text: str
) -> None:
    """The harness writes an entry for it all the same."""
    assert nvidia.read_summary(write_json(tmp_path / name, {BERT: {"b": text}})) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (nvidia.ACCURACY, {BERT: {"bert": "Accuracy = 1"}}, "PASSED or FAILED"),
        (nvidia.PERFORMANCE, {BERT: {"bert": "4751"}}, "VALID or INVALID"),
        (nvidia.PERFORMANCE, {BERT: "VALID"}, "should be an object"),
        (nvidia.PERFORMANCE, [], "an object is needed"),
        (nvidia.METADATA, {"config_name": BERT}, "no 'benchmark_full'"),
    ],
)
def test_an_entry_without_a_result_is_no_metric(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: object,
    words: str,
) -> None:
    """VirtualClient left it out; a gate would never hear of it."""
    path = write_json(tmp_path / name, value)

    assert main.main(["report", "virtualclient", str(path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert str(path) in error


PASS = Check("accuracy", Status.PASS, "90", "89", "log")
CELL = {"benchmark": "bert", "target": "99.9", "scenario": "singlestream",
        "engine": "tensorrt", "round": "v4.1", "mode": "performance"}  # fmt: skip
STREAM = Verdict(
    "bert-99.9", "SingleStream", "tensorrt", "performance", "v4.1",
    Metric("result_90.00_percentile_latency_ns", 2.202969, "ms"), (PASS,),
)  # fmt: skip
ACCURACY = replace(
    STREAM, mode="accuracy", metric=Metric("F1", 90.5, "%"),
    limit=Metric("F1", 90.0, "%"),
)  # fmt: skip
LATE = replace(STREAM, checks=(replace(PASS, status=Status.FAIL),))
HEADER = {"system": {"name": A100}}


def make_session(*verdicts: Verdict) -> SessionResults:
    records = [
        Record(f"t::{n}", "passed" if v.valid else "failed", CELL, v)
        for n, v in enumerate(verdicts)
    ]
    skipped = Record("t::skip", "skipped", CELL, None, "no dataset")
    return SessionResults(HEADER, (*records, skipped), None)


def test_a_session_s_runs_have_the_same_names(tmp_path: Path) -> None:
    """A stream's latency is in its key's nanoseconds; a repeat is averaged."""
    found = make_session(STREAM, ACCURACY, LATE)
    metrics = [m for run in session.list_results(found) for m in run.list_metrics()]
    averages = {one.name: one.average for one in summarize(metrics)}
    start = f"{A100}_TRT-custom_k_99_9_MaxP-SingleStream"
    path = REPORTER.write(found, tmp_path)

    assert averages[f"{start}-PerformanceMode"] == 0.5
    assert averages[f"{start}-AccuracyMode"] == 1.0
    assert averages[f"{start}-result_90.00_percentile_latency_ns"] == 2202969
    assert averages[f"AccuracyThresholdRatio_p99_9 ({start})"] == 90.5 / 90.0
    assert path
    assert f"bert,{start}-PerformanceMode,0.0,1.0,0.5,VALID/INVALID" in path.read_text()


@pytest.mark.parametrize(
    ("ours", "model"),
    [("ssd-small", "ssd-mobilenet"), ("ssd-large", "ssd-resnet34"), ("rnnt", "rnnt")],
)
def test_a_session_s_models_have_virtualclients_names(ours: str, model: str) -> None:
    """Dashboards ask for the names that its profiles had."""
    record = Record("t::1", "passed", CELL | {"benchmark": ours}, STREAM)
    (run,) = session.list_results(SessionResults(HEADER, (record,), None))

    assert {one.model for one in run.list_metrics()} == {model}


@pytest.mark.parametrize(("power", "setting"), [("bench7", "MaxQ"), (None, "MaxP")])
def test_a_session_with_a_power_meter_is_max_q(power: str | None, setting: str) -> None:
    """Its accuracy runs too, which no meter watches: they are of one configuration."""
    options = {"options": {"power": power}}
    found = replace(make_session(STREAM, ACCURACY), header=HEADER | options)
    names = {run.config_name for run in session.list_results(found)}

    assert names == {f"{A100}_TRT-custom_k_99_9_{setting}-SingleStream"}


def test_a_session_without_a_judged_run_has_no_file(tmp_path: Path) -> None:
    """An empty table would look like a session in which nothing failed."""
    assert REPORTER.write(make_session(), tmp_path) is None


@given(values=st.lists(st.sampled_from([0.0, 1.0]), min_size=1))
def test_a_summary_is_of_its_values(values: list[float]) -> None:
    """One name's values are together, another generation's apart."""
    metrics = [VirtualClientMetric("bert", "n", value) for value in values]
    other = replace(
        metrics[0], value=7.0, generation=Generation.METADATA,
        metadata={"config_name": "c"},
    )  # fmt: skip
    first, second = summarize([*metrics, other])

    assert (first.minimum, first.maximum) == (min(values), max(values))
    assert first.average == sum(values) / len(values)
    assert (second.name, second.values) == ("n (c)", (7.0,))
