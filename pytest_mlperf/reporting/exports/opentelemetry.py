"""``results.otlp.json``: figures of judged runs as OpenTelemetry metrics.

The file is OTLP's JSON, which a Collector's ``otlpjsonfile`` receiver reads. Where an
endpoint is named by OpenTelemetry's own variables, the same is sent there by the SDK's
exporter (OTLP over HTTP, protobuf).

Names and units follow OpenTelemetry's semantic conventions: dots between words, the
unit beside the name in UCUM, seconds for times, what a metric is of as attributes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import NamedTuple
from urllib.parse import urlsplit

from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.whole_file import write_whole
from pytest_mlperf.reporting.flat import FlatRow
from pytest_mlperf.reporting.flat import list_rows
from pytest_mlperf.reporting.flat import read_labels

FILE = "results.otlp.json"
EXTRA = "pip install 'pytest-mlperf[otel]'"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that name a receiver; the exporter reads them, and the others of OTLP."""
ATTRIBUTES = ("benchmark", "scenario", "engine", "mode", "round")
SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
"""A row's unit of time -> what it is in seconds."""
RATES = {
    "samples/s": ("mlperf.run.sample.rate", "{sample}/s"),
    "queries/s": ("mlperf.run.query.rate", "{query}/s"),
    "tokens/s": ("mlperf.run.token.rate", "{token}/s"),
}
"""A result's unit -> name and UCUM unit."""


class Point(NamedTuple):
    """One value of one run."""

    name: str
    unit: str
    """In UCUM: ``s``, ``{sample}/s``, ``1``."""
    value: float
    attributes: dict[str, Any]


class OpenTelemetryReporter:
    """Makes gauges by the SDK; the newest run of equal attributes counts."""

    name = "opentelemetry"

    def write(self, session: SessionResults, folder: Path) -> Path | None:
        """Return the path; None where no run was judged.

        Raises ``ValueError`` without the SDK, and where a receiver that is named by the
        environment does not take the metrics; the file is written all the same.
        """
        rows = [row for row in list_rows(session) if row["verdict"]]
        if not rows:
            return None
        try:
            from google.protobuf.json_format import MessageToJson
            from opentelemetry.exporter.otlp.proto.common.metrics_encoder import (
                encode_metrics,
            )
        except ImportError as error:
            text = f"needs OpenTelemetry's SDK and its OTLP exporter: {EXTRA}"
            raise ValueError(text) from error
        metrics = collect_metrics(rows, session.header)
        path = folder / FILE
        text = MessageToJson(encode_metrics(metrics), indent=None)
        write_whole(path, f"{text}\n")
        if any(os.environ.get(name) for name in ENDPOINTS):
            send_metrics(metrics)
        return path


def collect_metrics(rows: Sequence[FlatRow], header: Mapping[str, Any]) -> Any:
    """Return the rows' points as the SDK's ``MetricsData``."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource

    reader = InMemoryMetricReader()
    # Not Resource.create(), which asks detectors about this process: it is the session
    # that the metrics are of, on whatever machine it was.
    resource = Resource(describe_session(rows[0], header))
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("pytest_mlperf")
    gauges: dict[str, Any] = {}
    for row in rows:
        for point in list_points(row):
            if point.name not in gauges:
                gauges[point.name] = meter.create_gauge(point.name, point.unit)
            gauges[point.name].set(point.value, point.attributes)
    metrics = reader.get_metrics_data()
    provider.shutdown()
    return metrics


def describe_session(row: FlatRow, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource: what all runs of a session have in common."""
    found = {
        "service.name": "pytest-mlperf",
        "service.version": (header.get("versions") or {}).get("pytest-mlperf"),
        "host.name": row["host"],
        "vcs.ref.head.revision": row["commit"],
        "mlperf.system": row["system"],
        "mlperf.session.started": row["started"],
    }
    found |= {f"mlperf.label.{key}": text for key, text in read_labels(row).items()}
    return {name: value for name, value in found.items() if value}


def list_points(row: FlatRow) -> Iterator[Point]:
    """Yield the figures of one judged run."""
    about = {f"mlperf.{name}": row[name] for name in ATTRIBUTES if row[name]}
    if row["labels"]:
        about["mlperf.labels"] = row["labels"].split()
    yield Point("mlperf.run.valid", "1", float(row["verdict"] == "VALID"), about)
    yield from list_results(row, about)
    first = "latency" if row["tpot"] is None else "time_to_first_token"
    at = about | {"mlperf.percentile": row["percentile"]}
    times = (
        (first, "latency", "latency_unit", at),
        (f"{first}.limit", "limit", "limit_unit", at),
        ("time_per_output_token", "tpot", "tpot_unit", at),
        ("time_per_output_token.limit", "tpot_limit", "tpot_unit", at),
    )
    for name, column, unit, attributes in times:
        if row[column] is not None and (scale := SECONDS.get(row[unit])):
            value = row[column] * scale
            yield Point(f"mlperf.run.{name}", "s", value, attributes)
    others = (
        ("duration", "s", "actual_s"),
        ("rule.count", "{rule}", "rules"),
        ("rule.passed", "{rule}", "passed"),
        ("cpu.other.utilization", "1", "others_share"),
        ("power", "W", "watts"),
    )
    for name, unit, column in others:
        if row[column] is not None:
            yield Point(f"mlperf.run.{name}", unit, float(row[column]), about)


def list_results(row: FlatRow, about: dict[str, Any]) -> Iterator[Point]:
    """Yield a run's figure: a rate, a latency, or an accuracy by its metric's name."""
    value, unit = row["value"], row["unit"]
    if value is None:
        return
    if unit in RATES:
        yield Point(*RATES[unit], value, about)
    elif unit in SECONDS:
        yield Point("mlperf.run.result.latency", "s", value * SECONDS[unit], about)
    else:
        attributes = about | {"mlperf.metric": row["metric"], "mlperf.unit": unit}
        yield Point("mlperf.run.result.accuracy", "1", value, attributes)


def send_metrics(metrics: Any) -> None:
    """Send metrics to the receiver that the environment names."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
        OTLPMetricExporter,
    )
    from opentelemetry.sdk.metrics.export import MetricExportResult

    exporter = OTLPMetricExporter()
    try:
        result = exporter.export(metrics)
    finally:
        exporter.shutdown()
    if result is not MetricExportResult.SUCCESS:
        given = next(name for name in ENDPOINTS if os.environ.get(name))
        host = urlsplit(os.environ[given]).netloc.rpartition("@")[2]  # no password
        raise ValueError(
            f"{host} ({given}) did not take the metrics; see that a receiver of OTLP "
            f"over HTTP answers there, or unset the variable: {FILE} has them"
        )


REPORTER = OpenTelemetryReporter()
