"""Sliding windows over a volume: where they lie, and how their scores are blended.

As the reference implementation has it (mlcommons/inference, vision/medical_imaging/
3d-unet-kits19, inference_utils.py): cubes that overlap by half, weighted by a Gaussian,
and the class with the highest sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Start = tuple[int, int, int]
Shape = tuple[int, int, int]

OVERLAP = 0.5
"""Share of a side that two windows in a row have in common."""
SIGMA = 0.125
"""Standard deviation of the importance, as a share of the side."""


def find_stride(side: int) -> int:
    """Return how far one window is from the next, in voxels."""
    return int(side * (1 - OVERLAP))


def list_starts(shape: Shape, side: int) -> list[Start]:
    """Return the first voxel of each window, depth first.

    What a stride does not reach at the end of an axis is in no window; volumes are
    padded so that there is nothing (``volumes.fit_windows``).
    """
    stride = find_stride(side)
    axes = [range(0, ((n - side) // stride + 1) * stride, stride) for n in shape]
    return [(i, j, k) for i in axes[0] for j in axes[1] for k in axes[2]]


def make_importance(side: int) -> Floats:
    """Return the weight of each voxel of a window: float32 [side, side, side].

    It is the cube root of the product of three Gaussians, 1 at its largest.
    """
    places = np.arange(side) - (side - 1) / 2
    line = np.exp(-(places**2) / (2 * (SIGMA * side) ** 2))
    cube = np.cbrt(line[:, None, None] * line[:, None] * line)
    return np.asarray(cube / cube.max(), np.float32)


def cut(volume: Floats, start: Start, side: int) -> Floats:
    """Return one window of a volume [channels, depth, height, width], not copied."""
    i, j, k = start
    return volume[:, i : i + side, j : j + side, k : k + side]


class ScoreVolume:
    """Sums the weighted scores of a volume's windows.

    The reference divides each sum by the sum of its weights before it takes the largest
    class. That is one positive number for all classes of a voxel and changes no order,
    so that it is left out.
    """

    def __init__(self, shape: Shape, classes: int, importance: Floats) -> None:
        self._importance = importance
        self._sums = np.zeros((classes, *shape), np.float32)

    def add(self, start: Start, scores: Floats) -> None:
        """Add the scores of one window: float [classes, side, side, side]."""
        window = cut(self._sums, start, len(self._importance))
        window += scores * self._importance

    @property
    def is_finite(self) -> bool:
        """Whether no window brought NaN or infinity."""
        return bool(np.isfinite(self._sums).all())

    def classify(self) -> NDArray[np.uint8]:
        """Return the class of each voxel: uint8 [depth, height, width]."""
        return np.asarray(self._sums.argmax(axis=0), np.uint8)


def group(
    items: Sequence[tuple[int, Start]], most: int
) -> Iterator[Sequence[tuple[int, Start]]]:
    """Yield (volume, start) pairs in groups of ``most`` windows, in their order."""
    for first in range(0, len(items), most):
        yield items[first : first + most]
