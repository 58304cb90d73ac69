"""Letterboxing: a picture keeps its shape, and gray bars make it a square.

The pictures, and the way back for the boxes, are those of Ultralytics' ``LetterBox``
and ``scale_boxes``, which the reference of yolo calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.detection.pictures import Floats

GRAY = 114
"""Of the bars, in each channel."""
ONE = 1 << 11
"""A weight of 1 in OpenCV's fixed-point arithmetic."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Inset:
    """Where a picture lies in its square, in pixels."""

    height: int
    width: int
    top: int
    left: int


def find_inset(height: int, width: int, side: int) -> Inset:
    """Return where a picture lies: in the middle, as large as it fits."""
    scale = min(side / height, side / width)
    rows, columns = (max(1, round(length * scale)) for length in (height, width))
    # An odd rest has its larger half below and at the right.
    top, left = (round((side - length) / 2 - 0.1) for length in (rows, columns))
    return Inset(rows, columns, top, left)


def letterbox(pixels: Array, side: int) -> Floats:
    """Fit a picture of bytes into a gray square: float32 [side, side, 3]."""
    height, width, _ = pixels.shape
    at = find_inset(height, width, side)
    square = np.full((side, side, 3), GRAY, np.float32)
    fitted = resize_bytes(pixels, at.height, at.width)
    square[at.top : at.top + at.height, at.left : at.left + at.width] = fitted
    return square


def resize_bytes(pixels: Bytes, height: int, width: int) -> Bytes:
    """Resize as ``cv2.resize(…, INTER_LINEAR)`` does with bytes, to the last bit.

    Weights have 11 bits, columns are summed first, and each row's share loses its
    lowest bits before the two are added.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    left, right, shares = _find_neighbors(pixels.shape[1], width)
    at_edge = left == right
    shares[0, at_edge], shares[1, at_edge] = ONE, 0
    numbers = pixels.astype(np.int32)
    sums = numbers.take(left, 1) * shares[0][:, None]
    sums += numbers.take(right, 1) * shares[1][:, None]
    sums >>= 4
    above, below, shares = _find_neighbors(pixels.shape[0], height)
    result = sums.take(above, 0) * shares[0][:, None, None] >> 16
    result += sums.take(below, 0) * shares[1][:, None, None] >> 16
    bounded: Bytes = np.clip(result + 2 >> 2, 0, 255).astype(np.uint8)
    return bounded


def _find_neighbors(
    length: int, wanted: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """Return the two source pixels of each pixel, and their weights: [2, wanted]."""
    step = 1 / (wanted / length)  # OpenCV's two roundings
    at = ((np.arange(wanted) + 0.5) * step - 0.5).astype(np.float32)
    first = np.floor(at)
    share = at - first
    weights = np.rint(np.stack([1 - share, share]) * np.float32(ONE))
    low, high = (np.clip(first + n, 0, length - 1).astype(np.intp) for n in (0, 1))
    return low, high, weights.astype(np.int32)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The way back from boxes in the squares to boxes in the pictures."""

    side: int
    sizes: NDArray[np.int64]
    """Height and width of each picture: [pictures, 2]."""

    def restore(self, rows: Floats, sample: int) -> Floats:
        """Return a sample's objects with their boxes as shares of the picture.

        ``rows`` are y_min, x_min, y_max, x_max in pixels of the square, then others.
        The order of roundings is the reference's, in float32.
        """
        height, width = (int(length) for length in self.sizes[sample])
        at = find_inset(height, width, self.side)
        scales = np.array([at.height / height, at.width / width] * 2, np.float32)
        limits = np.array([height, width] * 2, np.float32)
        boxes = rows[:, :4] - np.array([at.top, at.left] * 2, np.float32)
        boxes = np.clip(boxes / scales, 0, limits) / limits
        return np.concatenate([boxes, rows[:, 4:]], axis=1)
