"""The recommendation workload: pairs in, click probabilities out, AUC at the end."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.recommender.auc import measure_auc
from pytest_mlperf.benchmarks.recommender.auc import measure_loss
from pytest_mlperf.benchmarks.recommender.pairs import MEAN_PAIRS
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset


@dataclass(frozen=True, slots=True)
class RecommenderWorkload:
    """A recommender and labelled pairs in groups, official or embedded.

    A sample is a group: LoadGen hears of it when its last pair is done.
    """

    kind: str
    title: str
    digest: str
    model: ModelFile
    dataset: PairDataset
    reference: Mapping[str, float]
    labels: Array
    """0 or 1 of each pair."""

    def in_units(self) -> RecommenderWorkload:
        """Return the workload with a sample for each of its first pairs."""
        return replace(self, dataset=self.dataset.in_pairs())

    @property
    def blank(self) -> Array:
        return np.zeros(round(MEAN_PAIRS), np.float32)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return a probability for each pair: float32 [batch, most pairs of a sample].

        The sizes leave out what is behind a sample's last pair.
        """
        scores = np.asarray(outputs[0])
        counts = self.dataset.count_pairs(indices)
        pairs = int(counts.sum())
        if scores.size != pairs or len(scores) != pairs:
            raise ValueError(
                f"output {self.model.outputs[0]} has the shape {list(scores.shape)}, "
                f"but should be [{pairs}]: one probability for each pair of the "
                f"{len(indices)} samples; check how the engine batches"
            )
        scores = np.ascontiguousarray(scores.reshape(-1), np.float32)
        finite = np.isfinite(scores)
        if not finite.all():
            pair = int(np.flatnonzero(~finite)[0])
            sample = indices[int(np.searchsorted(counts.cumsum(), pair, "right"))]
            raise ValueError(
                f"output {self.model.outputs[0]}[{pair}] is {scores[pair]} (sample "
                f"{sample}), but should be a finite number; check the engine's "
                "precision"
            )
        most = int(counts.max())
        if most * len(counts) == pairs:
            return Responses(scores.reshape(len(counts), most))
        rows = np.zeros((len(counts), most), np.float32)
        rows[np.arange(most) < counts[:, None]] = scores
        return Responses(rows, (counts * 4).tolist())

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return AUC and the share of pairs on the right side of one half, percent,
        and the mean log loss.

        Over the pairs of the samples that were answered, as accuracy-dlrm.py does.
        Raises ``ValueError`` for an unknown sample or an answer of the wrong size.
        """
        scores, labels = [], []
        for index, answer in answers.items():
            scores.append(self._read_answer(index, answer))
            begin, end = self.dataset.starts[index : index + 2]
            labels.append(self.labels[begin:end])
        found, truth = np.concatenate(scores), np.concatenate(labels).reshape(-1)
        right = np.count_nonzero((found > 0.5) == (truth != 0))
        return {
            "AUC": 100.0 * measure_auc(truth, found),
            "accuracy": 100.0 * right / len(truth),
            "loss": measure_loss(truth, found),
        }

    def _read_answer(self, index: int, answer: bytes) -> Array:
        starts, total = self.dataset.starts, self.dataset.total
        if not 0 <= index < total:
            raise ValueError(
                f"there is an answer for sample {index}, but the samples should be 0 "
                f"to {total - 1}; the log is of another dataset"
            )
        pairs = int(starts[index + 1] - starts[index])
        if len(answer) != 4 * pairs:
            raise ValueError(
                f"the answer for sample {index} has {len(answer)} bytes, but should "
                f"have {4 * pairs}: a float32 for each of its {pairs} pairs; the log "
                "is of another benchmark or of another grouping of the pairs"
            )
        return np.frombuffer(answer, "<f4")

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line of accuracy-dlrm.py."""
        total = len(self.labels)
        good = round(metrics["accuracy"] * total / 100)
        return (
            f"AUC={metrics['AUC']:.3f}%, accuracy={metrics['accuracy']:.3f}%, "
            f"good={good}, total={total}, queries={self.dataset.total}"
        )
