"""The tables of NVIDIA's recommender deployment guide: CSV, Markdown, and ratios."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_mlperf.benchmarks.dlrm import DLRM
from pytest_mlperf.reporting.deployment_table import MICROSECONDS

BATCHES = DLRM.deployment_batches
PUBLISHED_A100 = {
    ("dlrm", "fp32"): (3.64e5, 1.25e6, 2.33e6, 2.88e6, 3.36e6),
    ("dlrm", "fp16"): (4.01e5, 1.25e6, 2.62e6, 4.00e6, 4.30e6),
    ("dcnv2", "fp32"): (2.63e5, 8.19e5, 1.25e6, 1.31e6, 1.33e6),
    ("dcnv2", "fp16"): (3.17e5, 1.03e6, 1.85e6, 2.24e6, 2.45e6),
}
"""Inferences/s of 22 billion parameters on one A100 of 80 GB (Merlin HPS and TensorRT
in Triton): DeepLearningExamples, DLRM_and_DCNv2, merlin_hps_inference.md. What is
called fp32 there has TF32 products: ``trtexec`` is called without ``--noTF32``
(deployment/hps/deploy_dense.py), and TensorRT allows TF32 by default."""
FP32 = ("fp32", "tf32", "tf32x3")
"""Precisions that stand beside the published fp32."""
COLUMNS = MICROSECONDS.head
"""Of the guide's tables; times in microseconds."""
FURTHER = ("Lookup", "Dense", "Insert", "Hit rate", "Hit rate, cached tables", "x A100")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One batch size, measured; times in microseconds."""

    batch: int
    inferences_per_s: float
    latencies: Sequence[float]
    parts: Mapping[str, float]
    """``input``, ``lookup``, ``dense``, ``output``, ``insert``: medians by the device's
    clock."""
    hit_rate: float
    cached_hit_rate: float

    def as_row(self, model: str, precision: str) -> dict[str, str]:
        """Return column -> text. In-process there is no client and no queue."""
        p50, p90, p95, p99 = np.percentile(self.latencies, (50, 90, 95, 99))
        parts = self.parts
        values = (
            self.batch, 1, f"{self.inferences_per_s:.3e}", 0, 0, 0, *(
                f"{value:.0f}" for value in (
                    parts["input"], parts["lookup"] + parts["dense"], parts["output"],
                    0, p50, p90, p95, p99, np.mean(self.latencies),
                )
            ),
        )  # fmt: skip
        further = (
            *(f"{parts[name]:.0f}" for name in ("lookup", "dense", "insert")),
            f"{self.hit_rate:.2%}", f"{self.cached_hit_rate:.2%}",
            self.compare(model, precision),
        )  # fmt: skip
        names = (*COLUMNS, *FURTHER)
        return dict(zip(names, map(str, (*values, *further)), strict=True))

    def compare(self, model: str, precision: str) -> str:
        """Return how many times as fast as the published A100, where it has a row."""
        published = PUBLISHED_A100.get(
            (model, "fp32" if precision in FP32 else precision)
        )
        if published is None or self.batch not in BATCHES:
            return ""
        rate = published[BATCHES.index(self.batch)]
        return f"{self.inferences_per_s / rate:.2f}"


def write_report(
    folder: Path,
    name: str,
    configuration: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
) -> str:
    """Write NAME.csv and NAME.md; return the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = [("Parameter Name", "Parameter Value"), *configuration.items()]
    text = f"{format_table(table)}\n{format_table([[*rows[0]], *map(_values, rows)])}"
    (folder / f"{name}.md").write_text(text)
    return text


def _values(row: Mapping[str, str]) -> list[str]:
    return [*row.values()]


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines) + "\n"
