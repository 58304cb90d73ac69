"""The metrics of a session: its runs as configurations of NVIDIA's harness."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_mlperf.core.session_results import Record
from pytest_mlperf.core.session_results import SessionResults
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.reporting.virtualclient.metric import format_config_name
from pytest_mlperf.reporting.virtualclient.results import AccuracyValue
from pytest_mlperf.reporting.virtualclient.results import ConfigResult

HARNESSES = {"tensorrt": "TRT-custom", "triton": "Triton-triton"}
"""Provider -> library and harness; any other is its name and ``custom``. A Triton need
not have TensorRT behind it, so that it is not called TRT_Triton."""
MODELS = {"ssd-small": "ssd-mobilenet", "ssd-large": "ssd-resnet34"}
"""Benchmark -> VirtualClient's name of it, where that is another one."""


def list_results(session: SessionResults) -> Iterator[ConfigResult]:
    """Yield the judged performance and accuracy runs, in order."""
    system = str((session.header.get("system") or {}).get("name") or "unknown")
    measured = (session.header.get("options") or {}).get("power")
    power = "MaxQ" if measured else "MaxP"
    for record in session.records:
        verdict = record.verdict_to_show()
        if verdict and verdict.mode in (Mode.PERFORMANCE.value, Mode.ACCURACY.value):
            yield describe_run(record, verdict, system, power)


def describe_run(
    record: Record, verdict: Verdict, system: str, power: str
) -> ConfigResult:
    """Return a run as VirtualClient would have read it; an ERROR did not pass.

    ``power`` is MaxQ in a session that a power meter measures, as NVIDIA's submissions
    have it, else MaxP.
    """
    target = record.cell.get("target", "")
    model = record.cell.get("benchmark", verdict.benchmark)
    model = MODELS.get(model, model)
    harness = HARNESSES.get(verdict.engine, f"{verdict.engine}-custom")
    config_name = format_config_name(system, harness, target, power, verdict.scenario)
    full, metric = verdict.benchmark, verdict.metric
    if verdict.mode == Mode.PERFORMANCE.value:
        return ConfigResult(
            model, config_name, verdict.scenario, full, is_valid=verdict.valid,
            performance=(metric.key, read_value(metric)) if metric else None,
        )  # fmt: skip
    values = tuple(
        AccuracyValue(one.metric, one.value, one.threshold, one.value >= one.threshold)
        for one in verdict.scores
    )
    if not values and metric and verdict.limit:  # results of an earlier version
        value = AccuracyValue(
            metric.key, metric.value, verdict.limit.value, verdict.valid
        )
        values = (value,)
    return ConfigResult(
        model, config_name, verdict.scenario, full, verdict.valid, values
    )


def read_value(metric: Metric) -> float:
    """Return a figure in the unit that its LoadGen key names."""
    is_converted = metric.key.endswith("_ns") and metric.unit == "ms"
    return round(metric.value * 1e6) if is_converted else metric.value
