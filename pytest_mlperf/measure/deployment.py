"""A deployed model's report: its configuration, its accuracy, its figures per batch."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.static_batching import WINDOW_S
from pytest_mlperf.measure.static_batching import StaticFigures
from pytest_mlperf.measure.static_batching import measure_static
from pytest_mlperf.measure.under_test import EngineUnderTest
from pytest_mlperf.reporting.deployment_table import format_csv
from pytest_mlperf.reporting.deployment_table import format_markdown

SHORT_WINDOW_S = 1.0
"""Of a shortened session."""


@dataclass(slots=True)
class DeploymentReport:
    """Collects the figures of one item, and writes its tables."""

    cell: Cell
    folder: Path
    is_shortened: bool
    figures: list[StaticFigures] = field(default_factory=list)
    text: str = ""
    """The tables, once they are written."""

    def measure(self, engine: EngineUnderTest, size: int) -> StaticFigures:
        """Measure requests of ``size`` samples, one at a time."""
        window_s = SHORT_WINDOW_S if self.is_shortened else WINDOW_S
        found = measure_static(engine.measure_batches, size, window_s)
        self.figures.append(found)
        return found

    def write(self, engine: EngineUnderTest, verdict: Verdict) -> None:
        """Write ``deployment/CELL.md`` and ``.csv`` into the reports folder."""
        title = f"Offline: {self.cell.model}, {self.cell.engine}"
        settings = describe_deployment(engine, verdict)
        unstable = [str(one.batch) for one in self.figures if not one.is_stable]
        self.text = format_markdown(title, settings, self.figures)
        if unstable:
            self.text += (
                f"\nNot stable within 10 % over three windows: batch "
                f"{', '.join(unstable)}.\n"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self.folder / self.cell.id
        stem.with_name(f"{stem.name}.md").write_text(self.text, encoding="utf-8")
        table = format_csv(self.figures)
        stem.with_name(f"{stem.name}.csv").write_text(table, encoding="utf-8")


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
    return {
        "GPU": facts.get("device") or "none: CPU",
        "Backend": task.cell.engine,
        "Backend accelerator": options.get("accelerator", "-"),
        "Precision": (verdict.run.precision or "-").upper(),
        "Model format": "ONNX",
        "Max batch size": facts.get("max_batch_size", "-"),
        "Number of model instances": facts.get("instance_group", "-"),
        "Accelerator Precision": options.get("accelerator_precision", "-"),
        f"{metric} score": accuracy,
        "Labels": ", ".join(verdict.labels) or "-",
    }
