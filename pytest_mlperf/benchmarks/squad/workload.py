"""The question-answering workload: windows of tokens in, logits out, F1 at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.squad import predictions
from pytest_mlperf.benchmarks.squad.windows import Features


class SquadDataset:
    """Windows of tokens, padded to the longest of a batch (or to a fixed length).

    All of it stays in memory: the official set takes 33 MB.
    """

    def __init__(
        self,
        features: Features,
        inputs: Mapping[str, str],
        fixed: int | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        """Take ``inputs`` as graph name -> role, in the graph's order."""
        self.inputs = dict(inputs)
        self.fixed = fixed
        self.lengths: NDArray[np.int32] = features.lengths
        """Tokens of each window, padding not counted."""
        self._heads = features.heads
        self._ids = features.ids.astype(dtype or np.int64, copy=False)
        width = fixed or self._ids.shape[1]
        if width > self._ids.shape[1]:
            self._ids = np.pad(self._ids, ((0, 0), (0, width - self._ids.shape[1])))
        # Row n is n ones and then zeros: a mask is one look-up, without arithmetic.
        self._ones = np.tri(width + 1, width, -1, dtype=self._ids.dtype)

    @property
    def total(self) -> int:
        return len(self.lengths)

    @property
    def performance_count(self) -> int:
        return self.total

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: the windows are in memory."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the windows stay in memory."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        picked = np.asarray(indices)
        lengths = self.lengths[picked]
        width = self.fixed or int(lengths.max())
        mask = self._ones[lengths, :width]
        roles = {
            "ids": self._ids[picked, :width],
            "mask": mask,
            "segments": mask - self._ones[self._heads[picked], :width],
        }
        return {name: roles[role] for name, role in self.inputs.items()}


@dataclass
class SquadWorkload:
    """A BERT graph and the questions it answers."""

    kind: str
    title: str
    model: ModelFile
    dataset: SquadDataset
    reference: Mapping[str, float]
    features: Features
    files: tuple[Path, ...]
    """Everything that decides an answer, besides this code."""

    @cached_property
    def digest(self) -> str:
        return files_digest(self.files)

    @property
    def blank(self) -> Array:
        """Zero logits, float32 [mean length, 2]."""
        return np.zeros((round(float(self.dataset.lengths.mean())), 2), np.float32)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Stack start and end logits to float32 [batch, length, 2].

        The sizes leave out the padding, so that it never reaches LoadGen's log.
        """
        shapes = [np.shape(output) for output in outputs]
        lengths = self.dataset.lengths[np.asarray(indices)]
        need = len(lengths), int(lengths.max())
        if (
            len(shapes) != 2
            or shapes[0] != shapes[1]
            or len(shapes[0]) != 2
            or shapes[0][0] != need[0]
            or shapes[0][1] < need[1]
        ):
            raise ValueError(
                f"the engine's outputs have the shapes {shapes}, but should be two"
                f" (start and end logits) of [{need[0]}, at least {need[1]}]: one row"
                " for each sample of the batch and one column for each token. Look at"
                " the model's outputs and at the engine's batching."
            )
        answers = np.empty((*shapes[0], 2), np.float32)
        answers[..., 0] = outputs[0]
        answers[..., 1] = outputs[1]
        if not np.isfinite(answers).all():
            bad = np.flatnonzero(~np.isfinite(answers).all(axis=(1, 2)))
            raise ValueError(
                f"found NaN or infinity in {len(bad)} of {len(answers)} answers, but"
                f" logits should be finite [first: sample {indices[int(bad[0])]}]. Try"
                " precision fp32; if that holds, the lower precision overflows."
            )
        return Responses(answers, (lengths * 8).tolist())

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return F1 and exact_match from windows' bytes: float32 [token, 2] each."""
        texts = self._predict(answers)
        return predictions.evaluate(self.features.questions, texts)

    def score_each(self, answers: Mapping[int, bytes]) -> NDArray[np.float64]:
        """Return the F1 of each question in percent, from windows' bytes."""
        scores = np.zeros(len(self.features.questions))
        for index, text in self._predict(answers).items():
            accepted = self.features.questions[index].answers
            scores[index] = 100.0 * predictions.best_f1(text, accepted)
        return scores

    def _predict(self, answers: Mapping[int, bytes]) -> dict[int, str]:
        logits = {}
        for index, raw in answers.items():
            if len(raw) % 8 or not raw or not 0 <= index < self.dataset.total:
                raise ValueError(
                    f"found an answer of {len(raw)} bytes for sample {index}, but"
                    " should be 8 bytes a token (float32 start and end logit) for a"
                    f" sample of 0 to {self.dataset.total - 1}"
                    " [mlperf_log_accuracy.json]. Run the accuracy mode again."
                )
            logits[index] = np.frombuffer(raw, "<f4").reshape(-1, 2)
        return predictions.predict(self.features, logits)

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line as evaluate_v1.1.py prints it: exact match first."""
        line = {"exact_match": metrics["exact_match"], "f1": metrics["F1"]}
        return json.dumps(line)
