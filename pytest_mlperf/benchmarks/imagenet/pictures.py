"""ImageNet classification: decode, resize, crop, label map, dataset on disk."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.file_dataset import FileDataset
from pytest_mlperf.benchmarks.files import require_package

if TYPE_CHECKING:
    from PIL.Image import Image

CROP = 224
"""Side of what the models see, in pixels."""
RESIZE = 256
"""Shorter side before the crop: int(224 / 0.875), as the reference has it."""
INPUT = "input_tensor:0"
"""The reference model's input."""
MEANS = (123.68, 116.78, 103.94)
"""Red, green and blue means that the reference ResNet-50 subtracts (``vgg``)."""

Pixels = NDArray[np.uint8]


def read_rgb(path: Path) -> Image:
    """Decode a picture to RGB, turned upright; gray and CMYK are converted.

    Raises ``ValueError`` naming the file when it is not a picture.
    """
    require_package("Pillow", "pictures cannot be decoded", module="PIL.Image")
    from PIL import Image
    from PIL import ImageOps

    try:
        with Image.open(path) as image:
            # OpenCV, which the reference decodes with, follows EXIF orientation too.
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be decoded as a picture ({error}); "
            f"it should be a JPEG file; copy it again from the dataset"
        ) from error


def average_areas(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resize axis 0 to ``size``: each new value is the mean of the old values that it
    covers, those at both ends by the fraction covered.
    """
    length = len(values)
    summed = np.zeros((length + 1, *values.shape[1:]), np.float64)
    np.cumsum(values, axis=0, dtype=np.float64, out=summed[1:])
    edges = np.arange(size + 1) * (length / size)
    whole = np.minimum(edges.astype(np.intp), length - 1)
    part = (edges - whole).reshape(-1, *[1] * (values.ndim - 1))
    at_edges = summed[whole] + part * values[whole]
    means = np.diff(at_edges, axis=0) * (size / length)
    return np.asarray(means, np.float32)


def resize(image: Image) -> Pixels:
    """Scale so that the shorter side is ``RESIZE``: uint8 [height, width, 3].

    The reference resizes with OpenCV's INTER_AREA, which is the mean over exact areas
    both ways. Pillow's nearest filter, BOX, weighs whole pixels only and is off by up
    to 3 gray levels on average, so the mean is taken here: 1 level off at most.
    """
    width, height = image.size
    if height > width:
        size = (RESIZE, int(RESIZE * height / width))
    else:
        size = (int(RESIZE * width / height), RESIZE)
    pixels = np.asarray(image)
    if size == image.size:
        return pixels
    rows = average_areas(pixels.astype(np.float32), size[1])
    columns = average_areas(rows.transpose(1, 0, 2), size[0])
    return np.rint(columns.transpose(1, 0, 2)).astype(np.uint8)


def center_crop(pixels: Pixels) -> Pixels:
    """Cut the middle: uint8 [224, 224, 3]; half a pixel rounds to top and left."""
    height, width, _ = pixels.shape
    top, left = (height - CROP) // 2, (width - CROP) // 2
    return pixels[top : top + CROP, left : left + CROP]


def read_val_map(path: Path) -> list[tuple[str, int]]:
    """Read ``<file> <label>`` lines; the label is 0-based, below 1000.

    Raises ``ValueError`` with file and line for anything else.
    """
    entries: list[tuple[str, int]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not words[1].isdecimal() or int(words[1]) > 999:
            raise ValueError(
                f"{path}:{number} is {line!r}, but should be a file name and a label "
                f"from 0 to 999, as in 'ILSVRC2012_val_00000001.JPEG 65'; "
                f"use the val_map.txt of the reference implementation"
            )
        entries.append((words[0], int(words[1])))
    if not entries:
        raise ValueError(f"{path} is empty, but should have one line for each picture")
    return entries


class PictureFolder(FileDataset[Path]):
    """Pictures on disk, as uint8 [3, 224, 224]: a quarter of the fp32 of a batch."""

    def read(self, file: Path) -> Pixels:
        pixels = center_crop(resize(read_rgb(file)))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return ``INPUT``: float32 [batch, 3, 224, 224], less the means.

        Raises ``KeyError`` for a sample that is not loaded.
        """
        batch = np.empty((len(indices), 3, CROP, CROP), np.float32)
        means = np.array(MEANS, np.float32).reshape(3, 1, 1)
        for row, index in enumerate(indices):
            np.subtract(self._samples[index], means, out=batch[row])
        return {INPUT: batch}


@dataclass(frozen=True, slots=True)
class ImageNetWorkload:
    """A classifier with labelled pictures, official or embedded."""

    kind: str
    title: str
    digest: str
    model: ModelFile
    dataset: Dataset
    reference: Mapping[str, float]
    labels: NDArray[np.int32]

    @property
    def blank(self) -> Array:
        return np.zeros(1, np.int32)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return the winning class of each row, 0-based: int32 [batch, 1].

        1001 scores have the background first, as the official model does.
        """
        scores = outputs[0]
        if scores.ndim != 2 or scores.shape[1] not in (1000, 1001):
            raise ValueError(
                f"output {self.model.outputs[0]} has shape {list(scores.shape)}, but "
                f"should be [{len(indices)}, 1000] or [{len(indices)}, 1001]; "
                f"check the engine and which output of the model it returns"
            )
        if len(scores) != len(indices):
            raise ValueError(
                f"output {self.model.outputs[0]} has {len(scores)} rows, but should "
                f"have {len(indices)}, one for each sample of the batch; check how the "
                f"engine batches"
            )
        finite = np.isfinite(scores)
        if not finite.all():
            row, column = (int(at[0]) for at in np.nonzero(~finite))
            raise ValueError(
                f"output {self.model.outputs[0]}[{row}, {column}] is "
                f"{scores[row, column]} (sample {indices[row]}), but should be a "
                f"finite number; check the engine's precision"
            )
        winners = scores.argmax(axis=1) - (scores.shape[1] - 1000)
        return Responses(winners.astype(np.int32).reshape(-1, 1))

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return top-1 over the whole dataset in percent; a lost answer is wrong.

        Raises ``ValueError`` for an unknown sample or an answer that is not one int32.
        """
        return {"acc": 100.0 * len(self._find_right(answers)) / len(self.labels)}

    def score_each(self, answers: Mapping[int, bytes]) -> NDArray[np.float64]:
        """Return 100 for each picture whose class was found, 0 for the others.

        Raises ``ValueError`` as ``score`` does.
        """
        scores = np.zeros(len(self.labels))
        scores[self._find_right(answers)] = 100.0
        return scores

    def _find_right(self, answers: Mapping[int, bytes]) -> list[int]:
        labels: list[int] = self.labels.tolist()
        right = []
        for index, answer in answers.items():
            if not 0 <= index < len(self.labels):
                raise ValueError(
                    f"there is an answer for sample {index}, but the samples should be "
                    f"0 to {len(self.labels) - 1}; the log is of another dataset"
                )
            if len(answer) != 4:
                raise ValueError(
                    f"the answer for sample {index} has {len(answer)} bytes, but "
                    f"should have 4 (one int32); the log is of another benchmark"
                )
            if int.from_bytes(answer, "little", signed=True) == labels[index]:
                right.append(index)
        return right

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        total = len(self.labels)
        good = round(metrics["acc"] * total / 100)
        return f"accuracy={metrics['acc']:.3f}%, good={good}, total={total}"
