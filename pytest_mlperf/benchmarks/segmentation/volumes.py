"""Labeled volumes: their shapes, their windows, and the dataset that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.segmentation import windows
from pytest_mlperf.benchmarks.segmentation.dice import Labels
from pytest_mlperf.benchmarks.segmentation.windows import Floats
from pytest_mlperf.benchmarks.segmentation.windows import Shape
from pytest_mlperf.benchmarks.segmentation.windows import Start


@dataclass(frozen=True, slots=True)
class LabeledVolume:
    """One case."""

    name: str
    image: Floats
    """[1, depth, height, width]."""
    labels: Labels
    """[depth, height, width]."""

    @property
    def shape(self) -> Shape:
        depth, height, width = self.labels.shape
        return depth, height, width


def fit_windows(volume: Array, side: int, padding: float) -> Array:
    """Crop or pad the three last axes so that windows cover them evenly.

    An axis that is less than half a stride too long is cropped, any other is padded
    with ``padding``; both at either end. Source: preprocess.py,
    adjust_shape_for_sliding_window.
    """
    stride = windows.find_stride(side)
    lead = volume.ndim - 3
    cuts, pads = [slice(None)] * lead, [(0, 0)] * lead
    for length in volume.shape[lead:]:
        spare = length % stride
        spare = spare if spare < stride // 2 else 0
        cuts.append(slice(spare // 2, length - (spare - spare // 2)))
        length -= spare
        missing = max(-length % stride, side - length)
        pads.append((missing // 2, missing - missing // 2))
    return np.pad(volume[tuple(cuts)], pads, constant_values=padding)


def check_volume(case: LabeledVolume, side: int, classes: int) -> None:
    """Raise ``ValueError`` that names a case which cannot be run or scored."""
    name, image, labels = case.name, case.image, case.labels
    stride = windows.find_stride(side)
    if image.ndim != 4 or image.shape != (1, *labels.shape):
        raise ValueError(
            f"{name}: the image has the shape {image.shape} and the labels"
            f" {labels.shape}, but should be [1, depth, height, width] and the same"
            " without the first axis. Preprocess the case again."
        )
    if any(n < side or n % stride for n in case.shape):
        raise ValueError(
            f"{name}: the volume is {case.shape}, but each side should be at least"
            f" {side} and a multiple of {stride}, so that windows cover it. Preprocess"
            " the case again."
        )
    finite = np.isfinite(image)
    if not finite.all():
        first = tuple(int(at) for at in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}: voxel {first} is {image[first]}, one of"
            f" {np.count_nonzero(~finite)} that are no numbers, but intensities should"
            " be finite. Preprocess the case again from its NIfTI file."
        )
    if labels.dtype != np.uint8 or labels.max() >= classes:
        raise ValueError(
            f"{name}: the labels are {labels.dtype} up to {labels.max()}, but should"
            f" be uint8 from 0 to {classes - 1}. Preprocess the case again."
        )


class VolumeDataset:
    """Volumes in memory; a batch is the windows of its volumes, one after another.

    Volumes have several shapes and costs: ``lengths`` counts each one's windows.
    """

    def __init__(self, images: Sequence[Floats], side: int) -> None:
        """Take float32 volumes [1, depth, height, width] and the side of a window."""
        self.side = side
        self.images = images
        self.starts = [windows.list_starts(_shape_of(v), side) for v in images]
        self.performance_count = len(images)
        self.lengths: NDArray[np.int32] | None
        self.lengths = np.array([len(s) for s in self.starts], np.int32)

    @property
    def total(self) -> int:
        return len(self.images)

    def shape_of(self, index: int) -> Shape:
        """Return depth, height and width of a volume."""
        return _shape_of(self.images[index])

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: the volumes are in memory, as the rounds ask for."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the volumes stay in memory."""

    def list_windows(self, indices: Sequence[int]) -> list[tuple[int, Start]]:
        """Return (place in the batch, first voxel) of each window of a batch."""
        return [
            (place, start)
            for place, index in enumerate(indices)
            for start in self.starts[index]
        ]

    def cut_windows(
        self, indices: Sequence[int], items: Sequence[tuple[int, Start]]
    ) -> dict[str, Array]:
        """Return ``input``: float32 [windows, 1, side, side, side]."""
        batch = np.empty((len(items), 1, *[self.side] * 3), np.float32)
        for row, (place, start) in enumerate(items):
            batch[row] = windows.cut(self.images[indices[place]], start, self.side)
        return {"input": batch}

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return all windows of the volumes: float32 [windows, 1, side, side, side]."""
        return self.cut_windows(indices, self.list_windows(indices))


def _shape_of(volume: Floats) -> Shape:
    _, depth, height, width = volume.shape
    return depth, height, width
