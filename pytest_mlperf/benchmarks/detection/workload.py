"""A detector with annotated pictures, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.detection import scores
from pytest_mlperf.benchmarks.detection.annotations import Annotations
from pytest_mlperf.benchmarks.detection.letterbox import Letterbox
from pytest_mlperf.benchmarks.detection.outputs import FindObjects


@dataclass(frozen=True, slots=True)
class DetectionWorkload:
    """A detector with annotated pictures, official, embedded or synthetic."""

    kind: str
    title: str
    digest: str
    model: ModelFile
    dataset: Dataset
    reference: Mapping[str, float]
    annotations: Annotations
    find: FindObjects
    """Outputs of the model and number of samples -> objects found in each."""
    categories: NDArray[np.int64] | None = None
    """Label of the model -> category id of the annotations, where they differ."""
    letterbox: Letterbox | None = None
    """Where the model sees letterboxed pictures, and finds boxes in their pixels."""

    @property
    def blank(self) -> Array:
        return np.zeros((1, scores.COLUMNS), np.float32)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return the objects of each sample, best first: float32 [batch, most, 7].

        A row is ``scores.COLUMNS``; only the sample's own rows count, and a sample
        without objects has an empty answer.
        """
        found = self.find(outputs, len(indices))
        if self.letterbox is not None:
            pairs = zip(found, indices, strict=True)
            found = [self.letterbox.restore(rows, index) for rows, index in pairs]
        counts = [len(rows) for rows in found]
        answers = np.zeros((len(found), max(counts), scores.COLUMNS), np.float32)
        for answer, index, rows in zip(answers, indices, found, strict=True):
            answer[: len(rows), 0] = index
            answer[: len(rows), 1:] = rows
        return Responses(answers, [scores.ROW_BYTES * count for count in counts])

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return mAP over the whole dataset in percent; a lost answer finds nothing.

        Raises ``ValueError`` for answers of another dataset, benchmark or sample.
        """
        found = scores.read_answers(answers, len(self.annotations.content["images"]))
        return {"mAP": scores.compute_map(found, self.annotations, self.categories)}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        return f"mAP={metrics['mAP']:.3f}%"
