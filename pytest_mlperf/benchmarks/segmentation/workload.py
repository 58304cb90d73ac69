"""The segmentation workload: volumes in, a class a voxel out, mean Dice at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.segmentation import windows
from pytest_mlperf.benchmarks.segmentation.dice import Labels
from pytest_mlperf.benchmarks.segmentation.dice import score_classes
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.windows import ScoreVolume
from pytest_mlperf.benchmarks.segmentation.windows import Start

CLASSES = 3
"""Background, kidney, tumor."""


@dataclass(frozen=True, slots=True)
class SegmentationWorkload:
    """A 3D U-Net and labeled volumes."""

    kind: str
    title: str
    digest: str
    model: ModelFile
    dataset: VolumeDataset
    reference: Mapping[str, float]
    labels: Sequence[Labels]
    """Of each volume: uint8 [depth, height, width]; empty where nothing is scored."""
    windows_a_run: int = 1
    """Windows that one run of the model takes: its memory is theirs."""

    @property
    def blank(self) -> Array:
        """Background alone, uint8 [voxels of the first volume]."""
        return np.zeros(math.prod(self.dataset.shape_of(0)), np.uint8)

    def run_model(
        self, infer: Callable[[Batch, int], Sequence[Array]], indices: Sequence[int]
    ) -> Responses:
        """Return the answers to a batch of volumes.

        The windows of all its volumes follow one another, so that only the last run of
        the model is smaller than the others.
        """
        items = self.dataset.list_windows(indices)
        sums = self._make_sums(indices)
        for part in windows.group(items, self.windows_a_run):
            batch = self.dataset.cut_windows(indices, part)
            self._add(sums, part, infer(batch, len(part)))
        return self._answer(sums, indices)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return the class of each voxel: uint8, one volume a row, linear.

        ``outputs`` has the scores of all windows of the volumes: float
        [windows, classes, side, side, side].
        """
        sums = self._make_sums(indices)
        self._add(sums, self.dataset.list_windows(indices), outputs)
        return self._answer(sums, indices)

    @property
    def importance(self) -> Array:
        """The weight of each voxel of a window: float32 [side, side, side]."""
        return windows.make_importance(self.dataset.side)

    def volume(self, index: int) -> Array:
        """Return a volume: float32 [1, depth, height, width]."""
        return self.dataset.images[index]

    def starts(self, index: int) -> Sequence[Start]:
        """Return the first voxel of each window of a volume."""
        return self.dataset.starts[index]

    def _make_sums(self, indices: Sequence[int]) -> list[ScoreVolume]:
        importance = self.importance
        shapes = (self.dataset.shape_of(index) for index in indices)
        return [ScoreVolume(shape, CLASSES, importance) for shape in shapes]

    def _add(
        self,
        sums: Sequence[ScoreVolume],
        items: Sequence[tuple[int, Start]],
        outputs: Sequence[Array],
    ) -> None:
        self.check_scores(np.shape(outputs[0]), len(items))
        for row, (place, start) in enumerate(items):
            sums[place].add(start, outputs[0][row])

    def check_scores(self, shape: Sequence[int], count: int) -> None:
        """Raise ``ValueError`` unless that is the shape of ``count`` windows' scores:
        [windows, classes, side, side, side].
        """
        required = (count, CLASSES, *[self.dataset.side] * 3)
        if tuple(shape) != required:
            raise ValueError(
                f"output {self.model.outputs[0]} has the shape {list(shape)}, but"
                f" should be {list(required)}: the scores of each class for each"
                " window of the batch. Check the model and how the engine batches."
            )

    def _answer(self, sums: Sequence[ScoreVolume], indices: Sequence[int]) -> Responses:
        finite = [one.is_finite for one in sums]
        return self.answer([one.classify() for one in sums], finite, indices)

    def answer(
        self, classes: Sequence[Array], finite: Sequence[bool], indices: Sequence[int]
    ) -> Responses:
        """Return the answers from the class of each voxel, uint8 [depth, height, width]
        a volume. Raises ``ValueError`` where a volume's scores were not finite.
        """
        bad = [index for one, index in zip(finite, indices, strict=True) if not one]
        if bad:
            raise ValueError(
                f"found NaN or infinity in the scores of {len(bad)} of {len(indices)}"
                f" volumes, but scores should be finite [first: sample {bad[0]}]. Try"
                " precision fp32; if that holds, the lower precision overflows."
            )
        sizes = [math.prod(self.dataset.shape_of(index)) for index in indices]
        rows = np.zeros((len(indices), max(sizes)), np.uint8)
        for row, one, size in zip(rows, classes, sizes, strict=True):
            row[:size] = one.reshape(-1)
        return Responses(rows, sizes)

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return ``DICE``, the mean of both classes, and each: shares of 1.

        A lost answer scores 0. Raises ``ValueError`` for an answer of another size.
        """
        scores = np.zeros((self.dataset.total, CLASSES - 1))
        for index, raw in answers.items():
            known = 0 <= index < self.dataset.total
            size = self.labels[index].size if known else 0
            if not known or len(raw) != size:
                raise ValueError(
                    f"found an answer of {len(raw):,} bytes for sample {index}, but"
                    f" should be {size:,} bytes, one a voxel, for a sample of 0 to"
                    f" {self.dataset.total - 1} [mlperf_log_accuracy.json]. Run the"
                    " accuracy mode again."
                )
            volume = np.frombuffer(raw, np.uint8)
            if volume.max() >= CLASSES:
                raise ValueError(
                    f"the answer for sample {index} has the class {volume.max()}, but"
                    f" classes should be 0 to {CLASSES - 1}; the log is of another"
                    " benchmark"
                )
            scores[index] = score_classes(volume, self.labels[index], CLASSES)
        kidney, tumor = scores.mean(axis=0).tolist()
        mean = float(scores.mean(axis=1).mean())
        return {"DICE": mean, "kidney": kidney, "tumor": tumor}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line as accuracy_kits.py prints it."""
        line = "Accuracy: mean = {DICE:.5f}, kidney = {kidney:.4f}, tumor = {tumor:.4f}"
        return line.format(**metrics)
