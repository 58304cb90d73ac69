"""The workload of a speech benchmark: recordings in, labels logged, words scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.components import ModelComponents
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.benchmarks.speech.recordings import RecordingDataset
from pytest_mlperf.benchmarks.speech.transcripts import Alphabet
from pytest_mlperf.benchmarks.speech.transcripts import WordErrorRate

ToText = Callable[[Sequence[int]], str]
"""A model's tokens -> text."""
ToTokens = Callable[[str], Sequence[int]]
"""Text -> a model's tokens, with the one that ends a transcript."""


@dataclass(frozen=True)
class SpeechWorkload:
    """A ``TensorWorkload``, whose attributes are documented there."""

    kind: str
    title: str
    digest: str
    dataset: Dataset
    reference: Mapping[str, float]
    metric: str
    """The name of 100 minus the word error rate in percent."""
    transcripts: Sequence[str]
    alphabet: Alphabet
    to_text: ToText
    error_rate: WordErrorRate
    components: ModelComponents | None = None
    whisper: WhisperModel | None = None
    to_tokens: ToTokens | None = None
    """Where a server's text can stand for an engine's tokens."""
    model: None = None
    """There is no single ONNX file: see ``components`` and ``whisper``."""

    @property
    def blank(self) -> Array:
        """One space."""
        return np.zeros(1, np.int64)

    def respond(self, outputs: Sequence[Array], indices: Sequence[int]) -> Responses:
        """Turn tokens int32 [batch, longest] and their numbers [batch] into labels:
        int64 [batch, longest text].
        """
        shapes = [np.shape(output) for output in outputs]
        size = len(indices)
        if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[0][0] != size:
            raise ValueError(
                f"the engine's outputs have the shapes {shapes}, but should be tokens"
                f" [{size}, longest] and how many each answer has [{size}]. Look at the"
                " engine's batching."
            )
        tokens, counts = outputs
        if shapes[1] != (size,) or counts.min() < 0 or counts.max() > shapes[0][1]:
            raise ValueError(
                f"the engine says that its answers have {counts.tolist()} tokens, but"
                f" should say a number from 0 to {shapes[0][1]} for each of {size}"
                " answers. Look at the engine's batching."
            )
        sizes = counts.tolist()
        texts = [
            self.to_text(row[:count])
            for row, count in zip(tokens.tolist(), sizes, strict=True)
        ]
        labels = [self.alphabet.encode(text) for text in texts]
        rows = np.zeros((size, max(map(len, labels))), np.int64)
        for row, own in zip(rows, labels, strict=True):
            row[: len(own)] = own
        return Responses(rows, [8 * len(own) for own in labels], sizes)

    def recording(self, index: int) -> bytes:
        """Return a loaded recording as a wav file.

        Raises ``RequirementMissing`` where there is none.
        """
        if not isinstance(self.dataset, RecordingDataset):
            raise RequirementMissing(
                f"{self.title}: it has no recordings to send to a server; choose"
                " --mlperf-workload embedded or official"
            )
        return self.dataset.write_wav(index)

    def tokenize(self, text: str) -> Sequence[int]:
        """Return a transcript's tokens, with the one that ends it."""
        assert self.to_tokens is not None, "its benchmark takes recordings"
        return self.to_tokens(text)

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        """Return 100 minus the word error rate in percent; a lost answer has no words.

        Raises ``ValueError`` for an unknown sample or bytes that are no labels.
        """
        unknown = [i for i in answers if not 0 <= i < len(self.transcripts)]
        if unknown:
            raise ValueError(
                f"found an answer to sample {unknown[0]}, but should be to samples 0 to"
                f" {len(self.transcripts) - 1} [mlperf_log_accuracy.json]: the log is"
                " of another dataset. Run the accuracy mode again."
            )
        heard = [
            self.alphabet.decode(answers.get(index, b""))
            for index in range(len(self.transcripts))
        ]
        rate = self.error_rate(self.transcripts, heard)
        return {self.metric: 100 * (1 - rate)}

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        """Return the line as both references' accuracy_eval.py print it."""
        accuracy = next(iter(metrics.values()))
        return f"Word Error Rate: {100 - accuracy}%, accuracy={accuracy}%"


def make_digest(parts: Sequence[str], transcripts: Sequence[str]) -> str:
    """Return the sha256 of what decides an answer: hashes, settings, transcripts."""
    return hashlib.sha256(repr((list(parts), list(transcripts))).encode()).hexdigest()


def pad_rows(rows: Sequence[NDArray[np.float32]], multiple: int = 1) -> Array:
    """Return features of unequal length as one array: float32 [batch, longest, width].

    ``multiple`` divides the length.
    """
    longest = max(map(len, rows))
    longest += -longest % multiple
    batch = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
    for place, row in zip(batch, rows, strict=True):
        place[: len(row)] = row
    return batch
