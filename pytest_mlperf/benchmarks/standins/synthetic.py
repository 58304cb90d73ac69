"""Data of a rehearsal: the official number of samples, whose inputs are the answers.

A synthetic dataset gathers the outputs of a perfect model, and the ``oracle`` engine
returns them. Answers are computed from the sample's index when they are gathered, so
that a dataset of any size takes no memory.

``resnet50``, ``bert`` and the detection benchmarks have synthetic workloads of their
own and their usual scores. Every other benchmark has the size of its rule, a shape of
answers and the line of accuracy.txt; an answer is right when its bytes are the true
ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.core import catalog
from pytest_mlperf.core.rounds import AccuracyLimit
from pytest_mlperf.core.rounds import Rule
from pytest_mlperf.core.types import Mode

MODEL = ModelFile(Path("oracle"), (), ("truth",))
"""No graph: the oracle reads none. Its outputs are the arrays of a sample."""

# Two irrational steps, so that no two indices or places have the same value.
STEPS = (0.7548776662466927, 0.5698402909980532)

CANDIDATES = 4
"""Items of a dlrm-v3 query; the reference has 2,048."""

ANSWERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "3d-unet": ("u1", (16, 16, 16)),
    "pointpainting": ("<f4", (5, 14)),
    "dlrm": ("<f4", (1,)),
    "dlrm-v2": ("<f4", (1,)),
    "dlrm-v3": ("<f4", (2 + 3 * CANDIDATES + 1,)),
    "rgat": ("<i8", (1,)),
    "rnnt": ("i1", (40,)),
}
"""Type and shape of one answer, after the reference implementations; volumes, pictures
and films are much smaller than theirs."""
UNSCORED: dict[str, tuple[str, tuple[int, ...]]] = {
    "dlrm-v3": ("<f4", (2 + CANDIDATES,)),
}
"""Answers of a run that nobody scores, where the reference leaves out what only the
score reads: labels, weights and their number."""
SCORED = 256
"""Answers whose truths are computed at a time: a volume's take 32 KB each."""
TEXT: tuple[str, tuple[int, ...]] = ("u1", (64,))
"""Answers of every other benchmark: bytes."""

LINES = {
    "acc": "accuracy={acc:.3f}%",
    "AUC": "AUC={AUC:.3f}%",
    "mAP": "mAP={mAP:.4f}",
    "DICE": "Accuracy: mean = {DICE:.5f}, kidney = {DICE:.4f}, tumor = {DICE:.4f}",
    "WER": "Word Error Rate: {wrong:.4f}%, accuracy={WER:.4f}%",
    "ROUGE1": "{{'rouge1': '{ROUGE1:.4f}'}}",
    "ROUGE2": "{{'rouge2': '{ROUGE2:.4f}'}}",
    "ROUGEL": "{{'rougeL': '{ROUGEL:.4f}'}}",
    "GEN_LEN": "{{'gen_len': {GEN_LEN:.0f}}}",
    "CLIP_SCORE": "{{'CLIP_SCORE': '{CLIP_SCORE:.8f}'}}",
    "FID_SCORE": "{{'FID_SCORE': '{FID_SCORE:.8f}'}}",
    "vbench_score": "{{'vbench_score': {vbench_score:.4f}}}",
    "F1_HIERARCHICAL": '{{"f1": {F1_HIERARCHICAL:.4f}}}',
    "E2E_ACCURACY": "Accuracy: {E2E_ACCURACY:.2f}",
    "DLRM_NE": "metric/lifetime_ne/rating: {DLRM_NE:.5f}",
    "DLRM_ACC": "metric/lifetime_accuracy/rating: {DLRM_ACC:.5f}",
    "DLRM_AUC": "metric/lifetime_gauc/rating: {DLRM_AUC:.5f}",
}
"""Metric -> its line of accuracy.txt, as the official patterns read it."""

Truth = Callable[[NDArray[np.int64]], dict[str, Array]]
"""Sample indices -> a perfect model's outputs, one row a sample."""


@dataclass(frozen=True, slots=True)
class SyntheticDataset:
    """The official number of samples; gathers their answers."""

    total: int
    performance_count: int
    truth: Truth
    lengths: NDArray[np.int32] | None = None

    def load(self, indices: Sequence[int]) -> None:
        """Nothing to do: samples are computed when they are gathered."""

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: no sample is in memory."""

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        return self.truth(np.asarray(indices, np.int64))


def scatter(indices: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Return [sample, place] values in [0, 1) that depend on both numbers alone.

    They are the same in every batch, and differ in every sample's first place.
    """
    steps = indices[:, None] * STEPS[0] + np.arange(width) * STEPS[1]
    return np.asarray(steps % 1.0)


@dataclass(frozen=True, slots=True)
class SyntheticWorkload:
    """Ground truth of a benchmark that only a rehearsal has."""

    rule: Rule
    dataset: SyntheticDataset
    mode: Mode = Mode.ACCURACY
    """Of the run: its answers may be shorter where nobody scores them."""
    kind: str = "synthetic"
    model: ModelFile = MODEL

    @property
    def title(self) -> str:
        return f"synthetic: {self.dataset.total:,} samples of {self.rule.benchmark}"

    @property
    def digest(self) -> str:
        rule = self.rule
        parts = (rule.benchmark, rule.dataset_size, answer_type(rule.benchmark))
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def reference(self) -> Mapping[str, float]:
        return {limit.metric: limit.reference for limit in self.rule.accuracy}

    @property
    def blank(self) -> Array:
        kind, shape = answer_type(self.rule.benchmark, self.mode)
        return np.zeros(shape, kind)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Return the truth unchanged: [batch, *shape of an answer]."""
        answers = outputs[0]
        _, shape = answer_type(self.rule.benchmark, self.mode)
        required = (len(indices), *shape)
        if answers.shape != required:
            raise ValueError(
                f"the output has the shape {answers.shape}, but should be {required}: "
                "one answer a sample; only the engine oracle runs a synthetic workload"
            )
        return Responses(np.ascontiguousarray(answers))

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return each metric's best value times the share of true answers."""
        indices, good = [*answers], 0
        for first in range(0, len(indices), SCORED):
            chosen = indices[first : first + SCORED]
            (truths,) = self.dataset.gather(chosen).values()
            pairs = zip(chosen, truths, strict=True)
            good += sum(truth.tobytes() == answers[index] for index, truth in pairs)
        share = good / self.dataset.total
        return {m.metric: share * best_score(m) for m in self.rule.accuracy}

    def show(
        self, answers: Mapping[int, bytes], samples: Sequence[int]
    ) -> Mapping[str, bytes]:
        """Return a file for each answer that a submission shows: words, no film."""
        examples = catalog.get(self.rule.benchmark).examples
        if examples is None:
            return {}
        shown = {
            f"{sample}.{examples.suffix}": f"REHEARSAL: sample {sample}\n".encode()
            for sample in samples
            if sample in answers
        }
        return {**shown, "captions.txt": b"REHEARSAL\n"}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the metrics' lines in the reference implementations' form."""
        values: dict[str, float] = {**metrics, "wrong": 100 - metrics.get("WER", 0)}
        return "\n".join(LINES[m].format(**values) for m in metrics if m in LINES)


def best_score(limit: AccuracyLimit) -> float:
    """Return the score of perfect answers.

    It is the reference's where more is not better: an upper limit, normalized entropy,
    a number of tokens.
    """
    if limit.upper is not None or limit.metric in ("DLRM_NE", "GEN_LEN"):
        return limit.reference
    return 1.0 if limit.reference <= 1 else 100.0


def answer_type(
    benchmark: str, mode: Mode = Mode.ACCURACY
) -> tuple[str, tuple[int, ...]]:
    """Return type and shape of one answer in a run of a mode."""
    if mode is not Mode.ACCURACY and benchmark in UNSCORED:
        return UNSCORED[benchmark]
    return ANSWERS.get(benchmark, TEXT)


def make_truth(benchmark: str, mode: Mode = Mode.ACCURACY) -> Truth:
    """Return the ground truth of a benchmark without scoring of its own."""
    kind, shape = answer_type(benchmark, mode)
    if benchmark == "dlrm-v3":
        return make_query_truth(*shape)
    dtype: np.dtype[Any] = np.dtype(kind)
    # Labels of volumes are 0 to 2, bytes use all their values, scores lie below 1.
    scale = {"i": 1 << 40, "u": 3 if benchmark == "3d-unet" else 256}.get(dtype.kind, 1)
    scale = min(scale, 28) if dtype == np.int8 else scale

    def truth(indices: NDArray[np.int64]) -> dict[str, Array]:
        values = scatter(indices, int(np.prod(shape))) * scale
        return {"truth": values.reshape(len(indices), *shape).astype(dtype)}

    return truth


def make_query_truth(width: int) -> Truth:
    """Return dlrm-v3's ground truth: the first ``width`` numbers of float32
    [timestamp, query, predictions, labels, weights, number of candidates].

    Timestamp and query together name a sample: TEST08 finds it by them.
    """

    def truth(indices: NDArray[np.int64]) -> dict[str, Array]:
        values = scatter(indices, 2 * CANDIDATES)
        names = np.stack(np.divmod(indices, 1000), axis=1)
        labels = values[:, CANDIDATES:] < 0.5
        weights = np.ones_like(labels)
        counts = np.full((len(indices), 1), CANDIDATES)
        parts = (names, values[:, :CANDIDATES], labels, weights, counts)
        return {"truth": np.hstack(parts)[:, :width].astype("<f4")}

    return truth


@dataclass(frozen=True, slots=True)
class SyntheticBenchmark:
    """A benchmark that is not installed, as far as its rule describes it."""

    rule: Rule
    mode: Mode
    aliases: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()

    @property
    def name(self) -> str:
        return self.rule.benchmark

    @property
    def metric(self) -> str:
        return self.rule.accuracy[0].metric

    def precision(self, target: str) -> str:  # noqa: ARG002 - protocol
        return "fp32"

    def open_workload(self, kind: str, scratch: Path | None) -> SyntheticWorkload:  # noqa: ARG002
        """Open the synthetic workload, the only one there is."""
        rule = self.rule
        total = rule.dataset_size
        if self.mode is Mode.ACCURACY:
            total = rule.accuracy_sample_count
        data = SyntheticDataset(
            total,
            rule.performance_sample_count,
            make_truth(rule.benchmark, self.mode),
        )
        return SyntheticWorkload(rule, data, self.mode)


class SyntheticRehearsal:
    """Makes a benchmark from a rule, for benchmarks that do not rehearse themselves."""

    def rehearse(self, rule: Rule, mode: Mode) -> SyntheticBenchmark:
        return SyntheticBenchmark(rule, mode)


REHEARSAL = SyntheticRehearsal()
