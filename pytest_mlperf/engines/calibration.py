"""Calibration samples, and the proof that none of them is evaluated.

Scales that are chosen on the evaluated samples flatter the accuracy. Samples are
compared by a digest of their content, so that renaming, reordering or another padding
hides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import read_each


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration set that has been checked."""

    digest: str
    """sha256 over its samples, whatever their order."""
    samples: int
    summary: str
    """One line for people: how many samples, compared with how many."""


def sample_digests(batch: Batch, *, dynamic_length: bool = False) -> list[str]:
    """Return a digest of each row's content: names, types and values of all inputs.

    With ``dynamic_length`` trailing zeros of a row do not count: they are padding, and
    a sample is the same whatever batch it came in.
    """
    size = len(next(iter(batch.values())))
    digests = []
    for row in range(size):
        digest = hashlib.sha256()
        for name in sorted(batch):
            value = np.ascontiguousarray(batch[name][row])
            if dynamic_length and value.ndim:
                value = _trim_padding(value)
            digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
            digest.update(value.tobytes())
        digests.append(digest.hexdigest())
    return digests


def _trim_padding(value: Array) -> Array:
    used = np.flatnonzero(value.reshape(len(value), -1).any(axis=1))
    return value[: used[-1] + 1] if len(used) else value[:0]


def evaluation_digests(
    dataset: Dataset, *, dynamic_length: bool, beat: Callable[[], None]
) -> Iterator[str]:
    """Yield the digest of every sample that accuracy is measured on."""
    for batch in read_each(dataset):
        yield from sample_digests(batch, dynamic_length=dynamic_length)
        beat()


def check_apart(calibration: Iterable[str], evaluation: Iterable[str]) -> None:
    """Raise ``BuildFailed`` when a sample is in both sets, or there is none."""
    digests = list(calibration)
    if not digests:
        raise BuildFailed(
            "the calibration set is empty, but should have samples to read ranges "
            "from; give the workload some, or use --mlperf-precision fp16"
        )
    places = {digest: number for number, digest in enumerate(digests)}
    shared = [
        (places[digest], index)
        for index, digest in enumerate(evaluation)
        if digest in places
    ]
    if shared:
        number, index = shared[0]
        raise BuildFailed(
            f"{len(shared)} of {len(digests)} calibration samples are evaluated too, "
            f"but none should be (calibration sample {number} is evaluation sample "
            f"{index}): accuracy would be measured on what the scales were fitted to; "
            "take these samples out of the calibration set"
        )


def read_calibration(
    workload: TensorWorkload, precision: str, beat: Callable[[], None] = lambda: None
) -> Calibration:
    """Read and check a workload's calibration set.

    The official lists are compared with nothing: MLCommons draws them from the
    validation sets, and prescribes them. Raises ``BuildFailed`` where there is no set
    or one that shares a sample with the evaluation set.
    """
    model, dataset = workload.model, workload.dataset
    if model is None or model.calibration is None:
        raise BuildFailed(
            f"{precision} needs activation ranges, and {workload.title} has no "
            "calibration samples; use --mlperf-precision fp16"
        )
    dynamic = model.dynamic_length
    digests: list[str] = []
    for batch in model.calibration():
        digests += sample_digests(batch, dynamic_length=dynamic)
        beat()
    if workload.kind == "official":
        summary = f"{len(digests)} samples of the official list"
        check_apart(digests, ())
    else:
        evaluated = evaluation_digests(dataset, dynamic_length=dynamic, beat=beat)
        check_apart(digests, evaluated)
        count, total = len(digests), dataset.total
        summary = f"{count} samples, none of the {total} that are evaluated"
    whole = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return Calibration(whole, len(digests), summary)


def calibration_reader(
    batches: Iterable[Batch], beat: Callable[[], None] = lambda: None
) -> Any:
    """Return the batches as onnxruntime's quantizer reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> Batch | None:
            beat()
            return next(self._batches, None)

    return Reader()
