"""Checks a build: its weights are on the device, and it agrees with the fp32 graph."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload

SAMPLES = 16
REFERENCE_SAMPLES = 4
"""Of a run in fp32. Of 8 pictures or more, cuDNN 9.19 computed RetinaNet's largest
convolution (760 MB of fp32) wrong on an H200: an eighth of the numbers was off."""
MAX_ERROR = {"fp32": 1e-3, "fp16": 0.05, "bf16": 0.2, "fp8": 0.6}
"""Relative error (L2 of the difference over L2 of the reference's spread) beyond which
a build is broken. Whether it is good enough is for the accuracy run to say."""
MAX_ERROR_PICTURES = {**MAX_ERROR, "fp8": 0.2}
"""The same of a graph that is no encoder: ResNet-50 in fp8 is at 0.05, and at 0.27 with
three of its products wrong. An encoder that was never trained is at 0.43 with none."""


MIN_SHARED = 0.9
"""Of the candidates that a model keeps in fp32: those near the cut may change."""


class _FirstRun(Exception):
    """Carries the inputs of a model's first run."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


def gather_samples(workload: TensorWorkload) -> Batch:
    """Return one small batch of the dataset, or what one run of a sample takes."""
    dataset = workload.dataset
    if isinstance(workload, RunsModel):
        return _gather_run(workload, dataset)
    indices = list(range(min(SAMPLES, dataset.total, dataset.performance_count)))
    dataset.load(indices)
    batch = dataset.gather(indices)
    dataset.unload(indices)
    return batch


def _gather_run(workload: RunsModel, dataset: Dataset) -> Batch:
    """Return the inputs of the first run: all windows of a volume would be too many."""

    def stop(batch: Batch, size: int) -> Sequence[Array]:  # noqa: ARG001 - one shape
        raise _FirstRun(batch)

    dataset.load([0])
    try:
        workload.run_model(stop, [0])
    except _FirstRun as first:
        return first.batch
    finally:
        dataset.unload([0])
    raise BuildFailed("the workload answered a sample without a run of its model")


def run_program(program: Any, batch: Batch) -> list[Array]:
    """Run a program on a batch; return float32 arrays."""
    import torch

    feeds = {n: torch.from_numpy(a).to(program.device) for n, a in batch.items()}
    return [output.float().cpu().numpy() for output in program.run(feeds)]


def run_reference(program: Any, batch: Batch) -> list[Array]:
    """Run a program in fp32 on a few samples at a time; return float32 arrays."""
    size = len(next(iter(batch.values())))
    parts = [
        run_program(
            program, {n: a[i : i + REFERENCE_SAMPLES] for n, a in batch.items()}
        )
        for i in range(0, size, REFERENCE_SAMPLES)
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def check_on_device(tensors: Mapping[str, Any]) -> None:
    """Raise ``BuildFailed`` for a weight that is not on the CUDA device."""
    strays = [n for n, t in tensors.items() if getattr(t, "device", None) is None
              or t.device.type != "cuda"]  # fmt: skip
    if strays or not tensors:
        raise BuildFailed(
            f"{len(strays)} of {len(tensors)} weights are on the CPU, but all should "
            f"be on the CUDA device (first: {', '.join(strays[:3])}); a figure of such "
            "a build would be the CPU's. This is a defect of the engine torch"
        )


def check_agreement(
    model: Any,
    batch: Batch,
    reference: Sequence[Array],
    precision: str,
    max_error: Mapping[str, float] = MAX_ERROR,
    candidates: Sequence[int] = (),
) -> None:
    """Note how well a model agrees with fp32; raise ``BuildFailed`` if it does not.

    ``candidates`` are places of outputs, as ``match_candidates`` has them.
    """
    size = len(next(iter(batch.values())))
    engine = model.open()
    try:
        outputs = [np.array(a) for a in engine.infer(batch, size)]
    finally:
        engine.close()
    mask = next((batch[n].astype(bool) for n in batch if "mask" in n), None)
    same_in = ""
    if candidates:
        reference, outputs, shared = match_candidates(reference, outputs, candidates)
        same_in = f"numbers of the {shared:.1%} candidates that both have"
        if shared < MIN_SHARED:
            raise BuildFailed(
                f"in {precision} only {shared:.1%} of the model's candidates are those "
                f"of fp32, but {MIN_SHARED:.0%} should be [{size} samples]: the model "
                "is not what the engine torch took it for, or overflows; try "
                "--mlperf-precision fp32, and --mlperf-engine onnxruntime to compare"
            )
    judge_agreement(
        model, reference, outputs, precision, size, max_error, mask, same_in
    )


def judge_agreement(
    model: Any,
    reference: Sequence[Array],
    outputs: Sequence[Array],
    precision: str,
    size: int,
    max_error: Mapping[str, float] = MAX_ERROR,
    mask: Array | None = None,
    same_in: str = "",
) -> None:
    """Note how near outputs of ``size`` samples are to fp32's among a model's facts.

    Raises ``BuildFailed`` where they are not near enough.
    """
    error, same = measure_error(reference, outputs, mask)
    model.facts["agreement with fp32"] = (
        f"relative error {error:.2g}, same winner in {same:.1%} "
        + (same_in or f"of {size} samples")
    )
    check_error(error, precision, size, max_error)


def check_error(
    error: float,
    precision: str,
    size: int,
    max_error: Mapping[str, float] = MAX_ERROR,
) -> None:
    """Raise ``BuildFailed`` for a relative error that no rounding explains."""
    if not error <= max_error[precision]:
        raise BuildFailed(
            f"in {precision} the outputs differ from fp32 by {error:.2g} of their "
            f"spread, but should by at most {max_error[precision]} [{size} samples]: "
            "the model is not what the engine torch took it for, or overflows; try "
            "--mlperf-precision fp32, and another --mlperf-engine to compare"
        )


def match_candidates(
    reference: Sequence[Array], outputs: Sequence[Array], keys: Sequence[int]
) -> tuple[list[Array], list[Array], float]:
    """Return the candidates that both have, in one order, and their share.

    ``keys`` are the places of the outputs [batch, columns] that tell candidates apart.
    The others come back as rows, one a candidate.
    """
    rest = [place for place in range(len(reference)) if place not in keys]
    kept: tuple[list[list[Array]], ...] = ([], [])
    total = shared = 0
    for sample in range(len(reference[0])):
        names = []
        for side in (reference, outputs):
            columns = [np.rint(side[key][sample]).astype(np.int64) for key in keys]
            table = np.ascontiguousarray(np.stack(columns, axis=1))
            names.append(table.view([("", np.int64)] * len(keys)).reshape(-1))
        ours, theirs = names
        _, *spots = np.intersect1d(ours, theirs, return_indices=True)
        total, shared = total + len(names[0]), shared + len(spots[0])
        for rows, side, spot in zip(kept, (reference, outputs), spots, strict=True):
            rows.append([side[place][sample][spot] for place in rest])
    both = [
        [np.concatenate(parts) for parts in zip(*rows, strict=True)] for rows in kept
    ]
    return both[0], both[1], shared / total


def measure_error(
    reference: Sequence[Array], outputs: Sequence[Array], mask: Array | None
) -> tuple[float, float]:
    """Return relative error and the share of rows with the same largest value.

    Padding (mask 0) counts for neither.
    """
    difference = spread = 0.0
    same: list[Array] = []
    for a, b in zip(reference, outputs, strict=True):
        inside = np.ones(a.shape, bool) if mask is None else mask
        spread += float(((a[inside] - a[inside].mean()) ** 2).sum())
        difference += float(((a - b)[inside] ** 2).sum())
        rows = [np.where(inside, x, -np.inf).reshape(len(x), -1) for x in (a, b)]
        winners = [row.argmax(axis=1) for row in rows]
        same.append(winners[0] == winners[1])
    return float(np.sqrt(difference / spread)), float(np.mean(same))
