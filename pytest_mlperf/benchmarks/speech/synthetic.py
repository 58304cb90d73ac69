"""The workload of a rehearsal: transcripts made up, of the official number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.speech.transcripts import Alphabet
from pytest_mlperf.benchmarks.speech.transcripts import WordErrorRate
from pytest_mlperf.benchmarks.speech.workload import SpeechWorkload
from pytest_mlperf.benchmarks.speech.workload import make_digest
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticDataset

WORDS = ("river", "stone", "window", "garden", "letter", "silver", "paper", "bridge")
FEWEST, MOST = 2, 8
"""Words of a transcript."""


def open_synthetic(
    count: int, metric: str, alphabet: Alphabet, error_rate: WordErrorRate
) -> SpeechWorkload:
    """Open ``count`` transcripts of unequal length, the same each time.

    A token is a character's label: the oracle's answers go through labels, log and word
    errors as a model's do.
    """
    rng = np.random.default_rng(count)
    said = [
        " ".join(rng.choice(WORDS, rng.integers(FEWEST, MOST + 1)).tolist())
        for _ in range(count)
    ]
    lengths = np.array([len(text) for text in said], np.int32)
    labels = np.zeros((count, int(lengths.max())), np.int32)
    for row, text in zip(labels, said, strict=True):
        row[: len(text)] = alphabet.encode(text)

    def truth(indices: NDArray[np.int64]) -> dict[str, Array]:
        return {"tokens": labels[indices], "counts": lengths[indices]}

    return SpeechWorkload(
        kind="synthetic",
        title=f"synthetic: {count:,} made-up transcripts",
        digest=make_digest([metric, alphabet.characters], said),
        dataset=SyntheticDataset(count, count, truth, lengths),
        reference={metric: 100.0},
        metric=metric,
        transcripts=said,
        alphabet=alphabet,
        to_text=alphabet.to_text,
        error_rate=error_rate,
    )
