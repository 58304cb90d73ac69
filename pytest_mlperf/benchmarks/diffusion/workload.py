"""The workload of a diffusion benchmark: captions in, pictures logged and scored."""

from __future__ import annotations

import io
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pytest_mlperf.api.components import ModelComponents
from pytest_mlperf.api.diffusion_model import DiffusionModel
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import Dataset

Scores = Callable[[Sequence[Array], Sequence[str]], dict[str, float]]
"""Pictures uint8 [side, side, 3] and their captions -> metric -> value."""
CHANNELS = 3


@dataclass(frozen=True)
class DiffusionWorkload:
    """A ``TensorWorkload``, whose attributes are documented there."""

    kind: str
    title: str
    digest: str
    dataset: Dataset
    reference: Mapping[str, float]
    """Metric -> the least value of its band: the round's table has that of the official
    model, and the band's upper end is as far above."""
    captions: Sequence[str]
    side: int
    """Of a picture, in pixels."""
    score_all: Scores
    components: ModelComponents | None = None
    diffusion: DiffusionModel | None = None
    model: None = None
    """There is no single ONNX file: see ``components`` and ``diffusion``."""

    @property
    def blank(self) -> Array:
        """A black picture."""
        return np.zeros((self.side, self.side, CHANNELS), np.uint8)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Turn pictures float [batch, 3, side, side] of 0 to 1 into uint8
        [batch, side, side, 3], rounded as the reference does.
        """
        shape = np.shape(outputs[0])
        required = (len(indices), CHANNELS, self.side, self.side)
        if shape != required:
            raise ValueError(
                f"the engine's pictures have the shape {list(shape)}, but should have"
                f" {list(required)}. Look at the engine's batching."
            )
        pictures = np.asarray(outputs[0], np.float32)
        finite = np.isfinite(pictures).all(axis=(1, 2, 3))
        if not finite.all():
            first = indices[int(np.flatnonzero(~finite)[0])]
            raise ValueError(
                f"found NaN or infinity in {np.count_nonzero(~finite)} of"
                f" {len(indices)} pictures, but pixels should be 0 to 1 [first:"
                f" sample {first}]. Check the engine's precision."
            )
        levels = np.round(pictures.transpose(0, 2, 3, 1) * 255)
        return Responses(np.ascontiguousarray(levels.clip(0, 255).astype(np.uint8)))

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return CLIP_SCORE and FID_SCORE over all captions; a lost answer is black.

        Raises ``ValueError`` for an unknown sample or bytes that are no picture.
        """
        for index in answers:
            self._check_answer(index, answers[index])
        blank = self.blank
        pictures = [
            np.frombuffer(answers[i], np.uint8).reshape(blank.shape)
            if i in answers
            else blank
            for i in range(len(self.captions))
        ]
        return self.score_all(pictures, self.captions)

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line as accuracy_coco.py prints it."""
        texts = {name: str(metrics[name]) for name in ("FID_SCORE", "CLIP_SCORE")}
        return f"Accuracy Results: {texts}"

    def show(
        self, answers: Mapping[int, bytes], samples: Sequence[int]
    ) -> dict[str, bytes]:
        """Return the files of a submission's folder ``images``: a PNG of each answer,
        and the captions as accuracy_coco.py writes them.
        """
        from PIL import Image

        shown: dict[str, bytes] = {}
        lines = []
        for sample in samples:
            if sample not in answers:
                continue
            self._check_answer(sample, answers[sample])
            pixels = np.frombuffer(answers[sample], np.uint8).reshape(self.blank.shape)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            shown[f"{sample}.png"] = file.getvalue()
            lines.append(f"{sample}  {self.captions[sample]}\n")
        return shown | {"captions.txt": "".join(lines).encode()} if shown else {}

    def _check_answer(self, index: int, answer: bytes) -> None:
        size = self.blank.nbytes
        if len(answer) != size or not 0 <= index < len(self.captions):
            raise ValueError(
                f"found an answer of {len(answer):,} bytes for sample {index}, but"
                f" should be {size:,} (a picture of {self.side} x {self.side}) for a"
                f" sample of 0 to {len(self.captions) - 1} [mlperf_log_accuracy.json]."
                " Run the accuracy mode again."
            )
