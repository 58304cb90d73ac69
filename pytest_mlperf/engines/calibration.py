"""Calibration samples, and the proof that none of them is evaluated.

Scales that were chosen on the samples they are judged by flatter the accuracy. Every
sample is known here by a digest of its content, so that renaming, reordering or another
padding hides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Workload


@dataclass(frozen=True, slots=True)
class Calibration:
    """A calibration set that was looked at."""

    digest: str
    """sha256 over its samples, whatever their order."""
    samples: int
    said: str
    """One line for people: how many samples, compared with how many."""


def sample_digests(batch: Batch, *, dynamic_length: bool = False) -> list[str]:
    """Return a digest of each row's content: names, types and values of all inputs.

    With ``dynamic_length`` trailing zeros of a row do not count: they are padding, and
    a sample is the same whatever batch it came in.
    """
    size = len(next(iter(batch.values())))
    found = []
    for row in range(size):
        digest = hashlib.sha256()
        for name in sorted(batch):
            value = np.ascontiguousarray(batch[name][row])
            if dynamic_length and value.ndim:
                value = _trimmed(value)
            digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
            digest.update(value.tobytes())
        found.append(digest.hexdigest())
    return found


def _trimmed(value: Array) -> Array:
    used = np.flatnonzero(value.reshape(len(value), -1).any(axis=1))
    return value[: used[-1] + 1] if len(used) else value[:0]


def evaluation_digests(
    workload: Workload, beat: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Yield the digest of every sample that accuracy is measured on."""
    dataset, dynamic = workload.dataset, workload.model.dynamic_length
    for index in range(dataset.total):
        dataset.load([index])
        batch = dataset.gather([index])
        dataset.unload([index])
        yield from sample_digests(batch, dynamic_length=dynamic)
        beat()


def check_apart(calibration: Iterable[str], evaluation: Iterable[str]) -> None:
    """Raise ``BuildFailed`` when a sample is in both sets, or there is none."""
    chosen = list(calibration)
    if not chosen:
        raise BuildFailed(
            "the calibration set is empty, but should have samples to read ranges "
            "from; give the workload some, or use --mlperf-precision fp16"
        )
    places = {digest: number for number, digest in enumerate(chosen)}
    shared = [
        (places[digest], index)
        for index, digest in enumerate(evaluation)
        if digest in places
    ]
    if shared:
        number, index = shared[0]
        raise BuildFailed(
            f"{len(shared)} of {len(chosen)} calibration samples are evaluated too, "
            f"but none should be (calibration sample {number} is evaluation sample "
            f"{index}): accuracy would be measured on what the scales were fitted to; "
            "take these samples out of the calibration set"
        )


def read(
    workload: Workload, precision: str, beat: Callable[[], None] = lambda: None
) -> Calibration:
    """Look at a workload's calibration set.

    The official lists are compared with nothing: MLCommons draws them from the
    validation sets, and prescribes them. Raises ``BuildFailed`` where there is no set
    or one that shares a sample with the evaluation set.
    """
    model = workload.model
    if model.calibration is None:
        raise BuildFailed(
            f"{precision} needs activation ranges, and {workload.title} has no "
            "calibration samples; use --mlperf-precision fp16"
        )
    digests: list[str] = []
    for batch in model.calibration():
        digests += sample_digests(batch, dynamic_length=model.dynamic_length)
        beat()
    if workload.kind == "official":
        said = f"{len(digests)} samples of the official list"
        check_apart(digests, ())
    else:
        check_apart(digests, evaluation_digests(workload, beat))
        total = workload.dataset.total
        said = f"{len(digests)} samples, none of the {total} that are evaluated"
    whole = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return Calibration(whole, len(digests), said)
