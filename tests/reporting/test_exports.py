"""Every export of one session: the same runs, and no value that is not in it."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.commands import main
from pytest_mlperf.config.option_specs import OptionValues
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Score
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting import flat
from pytest_mlperf.reporting import formats
from pytest_mlperf.reporting import junit
from pytest_mlperf.reporting import results
from pytest_mlperf.reporting.exports import github
from pytest_mlperf.reporting.exports import openmetrics
from pytest_mlperf.reporting.exports import opentelemetry
from pytest_mlperf.reporting.virtualclient.session import list_results
from tests.support.exported_session import CELL
from tests.support.exported_session import FINE
from tests.support.exported_session import HEADER
from tests.support.exported_session import SESSION
from tests.support.exported_session import SLOW
from tests.support.exported_session import make_session

SCHEMA = Path(results.__file__).with_name("results.schema.json")


def test_the_option_names_every_format() -> None:
    """The folder is the list; the option's is another."""
    fields = {field.name: field for field in dataclasses.fields(OptionValues)}
    parse = fields["export"].metadata["spec"].parse
    names = formats.list_formats()

    assert parse(",".join(names)) == tuple(names)
    for name in names:
        assert name in fields["export"].metadata["spec"].help
        assert formats.load_export(name).name == name


def test_csv_reads_back_as_the_rows(tmp_path: Path) -> None:
    """Numbers in full, and empty for none."""
    path = formats.load_export("csv").write(SESSION, tmp_path)
    with path.open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    rows = list(flat.list_rows(SESSION))

    assert [*found[0]] == [*flat.COLUMNS]
    for read, row in zip(found, rows, strict=True):
        assert read == {k: "" if v is None else str(v) for k, v in row.items()}
    assert found[1]["cause"] == SLOW.cause
    assert (found[2]["verdict"], found[2]["cause"]) == ("", "no dataset")


def test_every_score_of_an_accuracy_run_is_exported() -> None:
    """ROUGE-2 alone may be what fails; the verdict's figure is the first."""
    scores = (Score("ROUGE1", 39.5, 38.4), Score("ROUGE2", 15.25, 15.5))
    verdict = replace(
        FINE, mode="accuracy", scores=scores, metric=Metric("ROUGE1", 39.5, ""),
        limit=Metric("ROUGE1_threshold", 38.4, ""), at_percentile=None, percentile=None,
    )  # fmt: skip
    session = make_session(Record("t.py::a", "passed", CELL, verdict, "", 1.0))
    (row,) = flat.list_rows(session)
    values = {
        metric.name.rpartition("MaxP-Server-")[2]: metric.value
        for run in list_results(session)
        for metric in run.list_metrics()
    }

    assert Verdict.from_json(verdict.to_json()) == verdict
    assert row["scores"] == "ROUGE1=39.5 ROUGE2=15.25"
    assert row["score_limits"] == "ROUGE1=38.4 ROUGE2=15.5"
    assert values["AccuracyValue"] == 39.5
    assert values["ROUGE2-AccuracyValue"] == 15.25
    assert values["ROUGE2-ThresholdValue"] == 15.5
    assert dict(junit.list_properties(verdict))["mlperf.score.ROUGE2"] == "15.25"


def test_parquet_has_the_same_rows_with_types(tmp_path: Path) -> None:
    """So that a notebook does not guess."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    path = formats.load_export("parquet").write(SESSION, tmp_path)
    table = pyarrow.parquet.read_table(path)

    assert table.to_pylist() == list(flat.list_rows(SESSION))
    assert str(table.schema.field("value").type) == "double"
    assert str(table.schema.field("rules").type) == "int64"


def test_openmetrics_is_what_prometheus_reads(tmp_path: Path) -> None:
    """Every figure, with its unit, of judged runs alone."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    path = formats.load_export("openmetrics").write(SESSION, tmp_path)
    families = {f.name: f for f in parser.text_string_to_metric_families(
        path.read_text(encoding="utf-8"))}  # fmt: skip

    assert {sample.value for sample in families["mlperf_valid"].samples} == {0.0}
    (latency,) = families["mlperf_latency"].samples
    assert latency.value == 50.1
    assert latency.labels["unit"] == "ms"
    assert latency.labels["system"] == "A | box"
    tokens = replace(FINE, tpot=Metric("tpot", 38.5, "ms"))
    session = make_session(Record("t.py::llm", "passed", CELL, tokens, "", 601.0))
    path = formats.load_export("openmetrics").write(session, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    (tpot,) = [line for line in lines if line.startswith("mlperf_tpot{")]
    assert 'unit="ms",quantile="0.99"' in tpot
    assert tpot.endswith(" 38.5")


def read_otlp(session: SessionResults, folder: Path) -> dict[str, list[Any]]:
    """Return metric -> its points, as protobuf reads the file."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.common")
    from google.protobuf.json_format import Parse
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

    path = formats.load_export("opentelemetry").write(session, folder)
    request = Parse(path.read_text("utf-8"), service.ExportMetricsServiceRequest())
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    return {one.name: [one.unit, *one.gauge.data_points] for one in scope.metrics}


def test_opentelemetry_names_units_and_attributes(tmp_path: Path) -> None:
    """Seconds, UCUM, what it is of beside it; nothing of what was not judged."""
    found = read_otlp(make_session(SESSION.records[0]), tmp_path)
    unit, point = found["mlperf.run.latency"]
    about = {one.key: one.value for one in point.attributes}

    assert (unit, point.as_double) == ("s", 0.00725)
    assert about["mlperf.benchmark"].string_value == "bert-99"
    assert about["mlperf.percentile"].double_value == 0.99
    labels = about["mlperf.labels"].array_value.values
    assert [one.string_value for one in labels] == ["embedded", "null_answers"]
    assert found["mlperf.run.query.rate"][0] == "{query}/s"
    assert found["mlperf.run.valid"][1].as_double == 1.0
    assert formats.load_export("opentelemetry").write(make_session(), tmp_path) is None


def test_opentelemetry_is_sent_to_a_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the SDK's exporter, as protobuf; one that refuses it is named."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

    answers, taken = [400, 200], []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = service.ExportMetricsServiceRequest.FromString(body)
            taken.append((self.path, message))
            self.send_response(answers.pop())
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:word@{host}")
    try:
        path = formats.load_export("opentelemetry").write(SESSION, tmp_path)
        with pytest.raises(ValueError, match=f"^{host} .* did not take the metrics"):
            formats.load_export("opentelemetry").write(SESSION, tmp_path)
    finally:
        server.shutdown()
        server.server_close()

    (place, message), _ = taken
    resource = {
        one.key: one.value.string_value
        for one in message.resource_metrics[0].resource.attributes
    }
    assert place == "/v1/metrics"
    assert path.is_file()
    assert resource["host.name"] == "box"
    assert resource["vcs.ref.head.revision"] == "0123abc"
    names = {one.name for one in message.resource_metrics[0].scope_metrics[0].metrics}
    assert {"mlperf.run.valid", "mlperf.run.latency.limit"} <= names


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.])")
FIGURE = st.floats(0.001, 1e9)


@given(FIGURE, FIGURE, FIGURE, FIGURE)
def test_no_export_has_a_number_that_is_not_the_sessions(
    value: float, latency: float, limit: float, seconds: float
) -> None:
    """Every gauge, and every number of the texts, is read back out of the session."""
    verdict = replace(
        FINE, metric=Metric("rate", value, "queries/s"), actual_s=seconds,
        at_percentile=Metric("p99", latency, "ms"), limit=Metric("limit", limit, "ms"),
    )  # fmt: skip
    session = make_session(Record("t.py::fine", "passed", CELL, verdict, "", 601.0))
    (row,) = flat.list_rows(session)
    known = {float(one) for one in row.values() if isinstance(one, int | float)}
    known |= {1.0, 0.0, latency * 1e-3, limit * 1e-3}  # VALID or not; ms in seconds
    text = "".join(
        line.rpartition("} ")[2]
        for line in "\n".join(openmetrics.format_metrics([row])).splitlines(True)
        if line.startswith("mlperf_")
    )

    assert {point.value for point in opentelemetry.list_points(row)} <= known
    assert {float(one) for one in text.split()} <= known
    line = github.format_row(row).replace(",", "")
    figures = [float(one) for one in NUMBER.findall(line.replace("bert-99", ""))]
    assert len(figures) == 4
    for one in figures:  # rounded to six digits
        assert any(math.isclose(one, exact, rel_tol=1e-5) for exact in known)
    for run in list_results(session):
        for metric in run.list_metrics():
            assert metric.value in known, metric.name
    properties = dict(junit.list_properties(verdict))
    del properties["mlperf"]  # the verdict itself, which has a test of its own
    for name, words in properties.items():
        if name != "mlperf.cause":
            shown = {float(one) for one in NUMBER.findall(words)}
            assert shown <= known | {0.25}, name


@given(st.text())
def test_a_label_is_escaped(text: str) -> None:
    """Quotes, backslashes and line breaks come back."""
    row = dict.fromkeys(flat.COLUMNS) | {"benchmark": text}
    line = openmetrics.format_labels(row, "")
    match = re.match(r'\{benchmark="((?:[^"\\\n]|\\.)*)"', line)

    assert match is not None
    plain = re.sub(
        r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], match[1]
    )
    assert plain == text


def test_openmetrics_of_nothing_is_nothing(tmp_path: Path) -> None:
    """A scrape must not see an empty success."""
    assert openmetrics.REPORTER.write(make_session(), tmp_path) is None


def test_the_job_summary_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other steps' text stays; the title, each run, and why one failed."""
    path = tmp_path / "summary"
    path.write_text("before\n")
    monkeypatch.setenv(formats.SUMMARY, str(path))
    assert formats.choose_exports(()) == ["github"]
    formats.load_export("github").write(SESSION, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()

    assert lines[:2] == ["before", r"## MLPerf: 1 of 3 VALID on A \| box"]
    assert "Not submission results: embedded, null answers." in lines
    assert sum(line.startswith("| ") for line in lines) == 4
    assert any("measured beside other load of 25% of its CPUs" in one for one in lines)
    assert any("p99 50.1 ms \\> 15 ms at 12.5 queries/s" in line for line in lines)


@given(st.text(alphabet="a|`*<>[]_\\\n#&"))
def test_a_table_cell_is_one_cell(text: str) -> None:
    """No text of a server breaks the table, or is markup."""
    row = dict.fromkeys(flat.COLUMNS) | {"benchmark": text, "outcome": "passed"}
    line = github.format_row(row)
    plain = re.sub(r"\\.", "", line)

    assert "\n" not in line
    assert plain.count("|") == 10
    assert not set("`*<>[]") & set(plain)


def load_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def test_the_schema_names_every_field() -> None:
    """A field that is added to a verdict is added to the schema."""
    known = load_schema()["$defs"]
    written = Record("t.py::fine", "passed", CELL, SLOW).to_line()
    parts = {
        "item": written, "verdict": written["verdict"],
        "check": written["verdict"]["checks"][0], "run": written["verdict"]["run"],
        "metric": written["verdict"]["metric"],
    }  # fmt: skip

    for name, found in parts.items():
        assert found.keys() == known[name]["properties"].keys(), name
        assert sorted(found) == sorted(known[name]["required"]), name
    assert known["header"]["properties"]["schema"]["const"] == results.SCHEMA


def test_lines_are_what_the_schema_says(tmp_path: Path) -> None:
    """As the writer writes them; and a line that is not is refused."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    writer = results.ResultsWriter(tmp_path / results.FILE)
    writer.open(HEADER)
    for record in SESSION.records:
        writer.add(record)
    writer.close(exitstatus=1, interrupted=False, selected=3)
    lines = [json.loads(one) for one in writer.path.read_text().splitlines()]

    assert len(lines) == 5
    for line in lines:
        validator.validate(line)
        for name in line:
            assert not validator.is_valid({k: v for k, v in line.items() if k != name})


@pytest.mark.parametrize("name", ["csv", "openmetrics", "github"])
def test_the_command_exports_a_finished_session(
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its folder; the file is the one that the session would have written."""
    monkeypatch.delenv(formats.SUMMARY, raising=False)
    writer = results.ResultsWriter(tmp_path / results.FILE)
    writer.open(HEADER)
    for record in SESSION.records:
        writer.add(record)
    writer.close(exitstatus=1, interrupted=False, selected=3)
    code = main.main(["report", name, str(tmp_path)])
    path = Path(capsys.readouterr().out.strip().removeprefix("report: "))
    again = tmp_path / "again"
    again.mkdir()
    own = formats.load_export(name).write(SESSION, again)

    assert code == 0
    assert path.read_text(encoding="utf-8") == own.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["csv", "nowhere"], ["csv", os.devnull]])
def test_the_command_refuses_what_is_no_session(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, with exit code 2."""
    assert main.main(["report", *words]) == 2
    assert "pytest-mlperf report: " in capsys.readouterr().err
