"""Pictures for detectors: decoded, stretched to a square, in memory while loaded."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.file_dataset import FileDataset
from pytest_mlperf.benchmarks.imagenet.pictures import read_rgb

Floats = NDArray[np.float32]
Prepare = Callable[[Floats], Array]
"""Resized picture, float32 [side, side, 3], RGB, 0 to 255 -> the model's numbers, as
many and in the same order."""
Fit = Callable[[Array, int], Floats]
"""Decoded picture, uint8 [height, width, 3], and a side -> float32 [side, side, 3]."""


def scale_to_one(pixels: Floats) -> Floats:
    """Return 0 to 1: the reference's pre_process_openimages_retinanet, and yolo's."""
    return pixels / np.float32(255)


def stretch(pixels: Array, side: int) -> Floats:
    """Resize to ``side`` x ``side``, whatever the aspect ratio: float32 [.., .., 3].

    The reference's ``cv2.resize(…, INTER_LINEAR)`` on floats: centers of pixels are
    aligned, edges repeated, and a smaller picture is sampled without smoothing. The
    order of operations is that of OpenCV's wheels for x86-64, to the last bit: columns
    first, coefficients in float32, one rounding for each multiply and add.
    """
    result = np.asarray(pixels, np.float32)
    for axis in (1, 0):
        length = result.shape[axis]
        at = (np.arange(side) + 0.5) * (length / side) - 0.5
        first = np.floor(at).astype(np.intp)
        share = (at - first).astype(np.float32)
        share[(first < 0) | (first >= length - 1)] = 0
        first = np.clip(first, 0, length - 1)
        low = result.take(first, axis)
        high = result.take(np.minimum(first + 1, length - 1), axis)
        # Products of two float32 are exact in float64: a fused multiply-add.
        step = (high - low).astype(np.float64)
        step *= share.reshape(-1, 1) if axis else share.reshape(-1, 1, 1)
        step += low
        result = step.astype(np.float32)
    return result


@dataclass(eq=False)
class PictureFiles(FileDataset[Path]):
    """Pictures on disk, decoded and resized when LoadGen loads them."""

    name: str
    """Of the model's input."""
    side: int
    prepare: Prepare
    channels_first: bool = True
    fit: Fit = stretch

    def read(self, file: Path) -> Array:
        pixels = np.asarray(read_rgb(file))
        values = self.prepare(self.fit(pixels, self.side))
        if self.channels_first:
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values)

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return one array under ``name``, a row a sample.

        Raises ``KeyError`` for a sample that is not loaded.
        """
        return {self.name: np.stack([self._samples[index] for index in indices])}
