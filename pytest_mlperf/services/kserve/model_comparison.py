"""Whether an exported model computes what its source computes."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.embedding.bare import sum_rows

TOLERANCES = {"fp32": 1e-4, "fp16": 0.01, "int8": 0.3}
"""Precision -> how far an output may be from the source model's, as a share of that
output's largest value. NVIDIA's scripts allow 5 of about 10 (BERT's logits)."""
SAMPLES = 4
"""Samples that are compared."""


def find_tolerance(precision: str) -> float:
    """Return how far an export in a precision may be from its source."""
    return TOLERANCES.get(precision, TOLERANCES["int8"])


def pick_batches(workload: TensorWorkload) -> list[Batch]:
    """Return some samples, each a batch of what the ONNX file takes."""
    indices = range(min(SAMPLES, workload.dataset.total))
    workload.dataset.load(indices)
    try:
        batches = [dict(workload.dataset.gather([index])) for index in indices]
    finally:
        workload.dataset.unload(indices)
    tables = workload.model.embedding if workload.model else None
    if tables is not None:
        rows = np.load(tables.path, mmap_mode="r")
        for batch in batches:
            vectors = sum_rows(rows, tables, batch.pop(tables.keys))
            batch[tables.vectors] = vectors.astype(np.float32)
    rows = {name: len(array) for name, array in batches[0].items()}
    if len(set(rows.values())) > 1:
        each = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise BuildFailed(
            f"{workload.title}: a sample's inputs have {each} rows, but Triton makes "
            "batches of tensors with as many; choose an engine with --mlperf-engine"
        )
    return [*batches]


def run_model(
    path: Path, outputs: Sequence[str], batches: Iterable[Batch]
) -> list[list[Array]]:
    """Return an ONNX file's outputs of each batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    return [session.run(list(outputs), dict(batch)) for batch in batches]


def check_outputs(
    source: ModelFile,
    path: Path,
    precision: str,
    actual: Iterable[Sequence[Array]],
    wanted: Sequence[Sequence[Array]],
) -> dict[str, float]:
    """Return each output's largest difference over all batches, as a share.

    Raises ``BuildFailed`` for one beyond the precision's tolerance.
    """
    pairs = list(zip(actual, wanted, strict=True))
    differences = {
        name: max(measure_difference(one[place], two[place]) for one, two in pairs)
        for place, name in enumerate(source.outputs)
    }
    limit = find_tolerance(precision)
    for name, difference in differences.items():
        if not difference <= limit:  # NaN too
            raise BuildFailed(
                f"{path}: output {name} differs from {source.path.name} by "
                f"{difference:.3g} of its largest value, but should by at most "
                f"{limit:g} in {precision}; choose another precision"
            )
    return differences


def measure_difference(actual: Array, wanted: Array) -> float:
    """Return the largest difference as a share of the largest value."""
    largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return float(np.abs(actual - wanted).max(initial=0.0)) / largest
