"""A deployed model's report: its configuration, its accuracy, its figures per batch."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf.config.load_options import LoadOptions
from pytest_mlperf.config.load_options import read_load_options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.batching import LoadFigures
from pytest_mlperf.measure.batching import measure_load
from pytest_mlperf.measure.batching import search_concurrency
from pytest_mlperf.measure.request_rate import measure_rate
from pytest_mlperf.measure.request_rate import search_rates
from pytest_mlperf.measure.under_test import EngineUnderTest
from pytest_mlperf.reporting.deployment_table import format_csv
from pytest_mlperf.reporting.deployment_table import format_markdown
from pytest_mlperf.reporting.deployment_table import format_results

BACKENDS = {
    "onnxruntime": "ONNX Runtime", "tensorrt": "NVIDIA TensorRT", "torch": "PyTorch",
    "triton": "Triton",
}  # fmt: skip
"""Provider -> its name in NVIDIA's tables."""
FORMATS = {
    "tensorrt": "NVIDIA TensorRT", "tensorrt_plan": "NVIDIA TensorRT",
    "pytorch_libtorch": "TorchScript",
}  # fmt: skip
"""Engine, or Triton's platform -> its model's format in NVIDIA's tables."""
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

    def measure(self, engine: EngineUnderTest, size: int) -> LoadFigures:
        """Measure requests of ``size`` samples, one at a time."""
        options = self._read_options(engine)
        found = measure_load(engine.measure_batches, size, options)
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

    def _read_options(self, engine: EngineUnderTest) -> LoadOptions:
        given = engine.under_test.task.engine_options
        return read_load_options(given, SHORT_MS if self.is_shortened else WINDOW_MS)

    def write(self, engine: EngineUnderTest, verdict: Verdict) -> None:
        """Write ``deployment/CELL.md`` and ``.csv`` into the reports folder, and
        ``CELL.online.csv`` of a server.
        """
        title = f"Offline: {self.cell.model}, {self.cell.engine}"
        settings = describe_deployment(engine, verdict)
        rows = [*self.figures, *self.online]
        unstable = [describe_load(one) for one in rows if not one.is_stable]
        self.text = format_markdown(title, settings, self.figures)
        if self.online:
            self.text += f"\nOnline: dynamic batching\n\n{format_results(self.online)}"
        if unstable:
            self.text += (
                f"\nNot stable over three windows: batch x concurrency "
                f"{', '.join(unstable)}.\n"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.folder / self.cell.id
        stem.with_name(f"{stem.name}.md").write_text(self.text, encoding="utf-8")
        table = format_csv(self.figures)
        stem.with_name(f"{stem.name}.csv").write_text(table, encoding="utf-8")
        if self.online:
            path = stem.with_name(f"{stem.name}.online.csv")
            path.write_text(format_csv(self.online), encoding="utf-8")


def describe_load(figures: LoadFigures) -> str:
    """Return a row's batch and how its requests came."""
    if figures.request_rate:
        return f"{figures.batch} x {figures.request_rate:g}/s"
    return f"{figures.batch} x {figures.concurrency}"


def describe_deployment(engine: EngineUnderTest, verdict: Verdict) -> dict[str, str]:
    """Return the configuration table: name -> value, ``-`` for what is not known."""
    facts, task = verdict.facts, engine.under_test.task
    accuracy = "-"
    if verdict.metric is not None:
        accuracy = f"{verdict.metric.value:.2f}"
        if verdict.limit is not None:
            accuracy += f" (threshold {verdict.limit.value:.2f})"
    options = task.engine_options
    metric = verdict.metric.key if verdict.metric else "accuracy"
    _, _, platform = facts.get("model served", "").rpartition(", ")
    return {
        name_device(verdict): facts.get("device") or "-",
        "Backend": BACKENDS.get(task.cell.engine, task.cell.engine),
        "Backend accelerator": options.get("accelerator", "-"),
        "Precision": (verdict.run.precision or "-").upper(),
        "Model format": FORMATS.get(platform or task.cell.engine, "ONNX"),
        "Max batch size": facts.get("max_batch_size", "-"),
        "Number of model instances": facts.get("instance_group", "-"),
        "Accelerator Precision": options.get("accelerator_precision", "-"),
        f"{metric} score": accuracy,
        "Labels": ", ".join(verdict.labels) or "-",
    }


def name_device(verdict: Verdict) -> str:
    """Return what answered; of servers elsewhere NVIDIA's name of the row."""
    is_cpu = not verdict.run.accelerators and not verdict.run.is_attached
    return "CPU" if is_cpu else "GPU"
