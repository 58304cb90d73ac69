"""A deployed model's report: its configuration, its accuracy, its figures per batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.api import registry
from pytest_mlperf.api.benchmark import DeployedInUnits
from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.config.load_options import read_load_options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.types import KIND_LABELS
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.batching import measure_load
from pytest_mlperf.measure.batching import search_concurrency
from pytest_mlperf.measure.request_rate import measure_rate
from pytest_mlperf.measure.request_rate import search_rates
from pytest_mlperf.measure.under_test import EngineUnderTest
from pytest_mlperf.reporting.deployment_plot import draw_svg
from pytest_mlperf.reporting.deployment_table import MICROSECONDS
from pytest_mlperf.reporting.deployment_table import MILLISECONDS
from pytest_mlperf.reporting.deployment_table import LoadFigures
from pytest_mlperf.reporting.deployment_table import format_csv
from pytest_mlperf.reporting.deployment_table import format_markdown
from pytest_mlperf.reporting.deployment_table import format_results
from pytest_mlperf.runner.batch_times import BatchLoad
from pytest_mlperf.runner.batch_times import BatchTimes
from pytest_mlperf.runner.messages import Task

TENSORRT = "NVIDIA TensorRT"
BACKENDS = {
    "onnxruntime": "ONNX Runtime", "onnxruntime_onnx": "ONNX Runtime",
    "onnx": "ONNX Runtime", "tensorrt": TENSORRT, "tensorrt_plan": TENSORRT,
    "torch": "PyTorch", "pytorch_libtorch": "PyTorch", "ts-trace": "PyTorch",
    "ts-script": "PyTorch", "triton": "Triton",
}  # fmt: skip
"""Engine, format, or Triton's platform -> the runtime's name in NVIDIA's tables."""
FORMATS = {
    "tensorrt": TENSORRT, "tensorrt_plan": TENSORRT,
    "pytorch_libtorch": "TorchScript Trace", "ts-trace": "TorchScript Trace",
    "ts-script": "TorchScript Script",
}  # fmt: skip
"""The same -> its model's format in NVIDIA's tables."""
ACCELERATORS = {"trt": TENSORRT}
FURTHER = {"Model": "workload", "Embedding Cache": "embedding cache"}
"""Row of a recommender's configuration -> a verdict's fact."""
WINDOW_MS, SHORT_MS = 5000.0, 1000.0
"""A window's time, and that of a shortened session."""


@dataclass(slots=True)
class DeploymentReport:
    """Collects the figures of one item, and writes its tables."""

    cell: Cell
    folder: Path
    is_shortened: bool
    figures: list[LoadFigures] = field(default_factory=list)
    """Of static batching."""
    online: list[LoadFigures] = field(default_factory=list)
    """Of dynamic batching."""
    text: str = ""
    """The tables, once they are written."""

    def list_batches(self, engine: EngineUnderTest) -> tuple[int, ...]:
        """Return the samples of a request, or its pairs, one row each."""
        return self._read_options(engine).batch_size

    def measure(self, engine: EngineUnderTest, size: int) -> LoadFigures:
        """Measure requests of a size, one at a time."""
        options = self._read_options(engine)
        in_units = self._units is not None

        def time(load: BatchLoad) -> BatchTimes:
            return engine.measure_batches(replace(load, in_units=in_units))

        found = measure_load(time, size, options)
        self.figures.append(found)
        return found

    def measure_online(self, engine: EngineUnderTest) -> None:
        """Measure requests of one sample: more and more of them outstanding, or at the
        rates of ``request_rate_range``.
        """
        time, options = engine.measure_batches, self._read_options(engine)
        if options.request_rate_range is None:

            def measure(outstanding: int) -> LoadFigures:
                return measure_load(time, 1, options, outstanding)

            self.online = search_concurrency(measure, options)
        else:

            def measure_at(rate: float) -> LoadFigures:
                return measure_rate(time, 1, rate, options)

            self.online = search_rates(measure_at, options)

    @property
    def _units(self) -> DeployedInUnits | None:
        benchmark = registry.benchmark(self.cell.benchmark)
        return benchmark if isinstance(benchmark, DeployedInUnits) else None

    def _read_options(self, engine: EngineUnderTest) -> LoadOptions:
        under_test = engine.under_test
        # An engine takes none of them, but its table should have the same rows.
        given = dict(under_test.rig.session.options.all_engine_options)
        if (units := self._units) and not os.environ.get("BATCH_SIZE"):
            given.setdefault("batch_size", "+".join(map(str, units.deployment_batches)))
        given |= under_test.task.engine_options
        interval_ms = SHORT_MS if self.is_shortened else WINDOW_MS
        return read_load_options(given, interval_ms, os.environ)

    def write(self, engine: EngineUnderTest, verdict: Verdict) -> None:
        """Write ``deployment/CELL.md`` and ``.csv`` into the reports folder,
        ``CELL.online.csv`` of a server, and ``CELL.svg`` where vl-convert is installed.
        """
        unit = MICROSECONDS if self._units else MILLISECONDS
        opened = engine.under_test.open()
        settings = describe_deployment(engine.under_test.task, verdict, opened.longest)
        title = format_title(self.cell.model, settings)
        rows = [*self.figures, *self.online]
        unstable = [describe_load(one) for one in rows if not one.is_stable]
        self.text = format_markdown(title, settings, self.figures, unit)
        if self.online:
            table = format_results(self.online, unit)
            self.text += f"\nOnline: dynamic batching\n\n{table}"
        if unstable:
            self.text += (
                f"\nNot stable over three windows: batch x concurrency "
                f"{', '.join(unstable)}.\n"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.folder / self.cell.file_name
        stem.with_name(f"{stem.name}.md").write_text(self.text, encoding="utf-8")
        table = format_csv(self.figures, unit)
        stem.with_name(f"{stem.name}.csv").write_text(table, encoding="utf-8")
        if self.online:
            path = stem.with_name(f"{stem.name}.online.csv")
            path.write_text(format_csv(self.online, unit), encoding="utf-8")
        if (svg := draw_svg(title, self.figures)) is not None:
            stem.with_name(f"{stem.name}.svg").write_text(svg, encoding="utf-8")


def format_title(model: str, settings: Mapping[str, str]) -> str:
    """Return a table's title: device, runtime, precision and accelerator, as NVIDIA's
    guide has them, and the model.
    """
    device = settings.get("CPU") or settings["GPU"]
    title = f"Offline: {device}, {settings['Backend']} with {settings['Precision']}"
    accelerator = settings["Backend accelerator"].removeprefix("NVIDIA ")
    if accelerator != "-":
        title += f", Backend accelerator {accelerator}"
    return f"{title} ({model})"


def describe_load(figures: LoadFigures) -> str:
    """Return a row's batch and how its requests came."""
    if figures.request_rate:
        return f"{figures.batch} x {figures.request_rate:g}/s"
    return f"{figures.batch} x {figures.concurrency}"


def describe_deployment(task: Task, verdict: Verdict, longest: int) -> dict[str, str]:
    """Return the configuration table: name -> value, ``-`` for what is not known.

    Rows have the names and the order of NVIDIA's tables for BERT; threshold and labels
    follow. ``longest``: tokens of the longest sequence.
    """
    facts, options = verdict.facts, task.engine_options
    _, _, platform = facts.get("model served", "").rpartition(", ")
    kind = options.get("format") or platform
    if kind not in BACKENDS:
        # Triton's Python backend, whose platform says nothing of what it runs.
        is_own = task.cell.engine == "triton" and not verdict.run.is_attached
        kind = "onnx" if is_own else task.cell.engine
    count, _, _ = facts.get("instance_group", "-").partition(" ")
    rows = {
        name_device(verdict): facts.get("device") or "-",
        "Backend": name_backend(task.cell.engine, kind),
        "Backend accelerator": ACCELERATORS.get(options.get("accelerator", ""), "-"),
        "Precision": (verdict.run.precision or "-").upper(),
        "Model format": FORMATS.get(kind, "ONNX"),
        "Max batch size": facts.get("max_batch_size", "-"),
        "Number of model instances": count,
    }
    if rows["Model format"] == TENSORRT:
        captured = options.get("capture_cuda_graph") == "1"
        rows[f"{TENSORRT} Capture CUDA Graph"] = "Enabled" if captured else "Disabled"
    accelerated = options.get("accelerator_precision", "-").upper()
    rows["Accelerator Precision"] = accelerated
    if task.cell.benchmark == "bert":
        rows["Max Seq Length"] = options.get("max_seq_length", str(longest))
    metric = verdict.metric
    if metric is not None:
        name = "SQuAD v1.1 F1 Score" if metric.key == "F1" else f"{metric.key} Score"
        kind = next((one for one in KIND_LABELS.values() if one in verdict.labels), "")
        of = f" ({kind} samples)" * bool(kind)
        rows[name] = f"{metric.value:.2f}{of}"
    if verdict.limit is not None:
        rows["Accuracy threshold"] = f"{verdict.limit.value:.2f}"
    if "embedding cache" in facts:
        rows |= {name: facts[fact] for name, fact in FURTHER.items()}
        rows["All Scores"] = facts.get("scores", "-")
    return {**rows, "Labels": ", ".join(verdict.labels) or "-"}


def name_backend(engine: str, kind: str) -> str:
    """Return what runs the model; ``kind``: the format, or Triton's platform."""
    runtime = BACKENDS.get(kind, kind)
    return f"{runtime} in Triton" if engine == "triton" != kind else runtime


def name_device(verdict: Verdict) -> str:
    """Return what answered; of servers elsewhere NVIDIA's name of the row."""
    is_cpu = not verdict.run.accelerators and not verdict.run.is_attached
    return "CPU" if is_cpu else "GPU"
