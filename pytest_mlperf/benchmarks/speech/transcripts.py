"""Transcripts: the labels that are logged, and the official word error rates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.files import SPEECH_EXTRA
from pytest_mlperf.benchmarks.files import require_package

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
NORMALIZER = "0.1.0"
"""The release of whisper-normalizer that does what openai-whisper 20250625 does."""
JOINED_WORDS = 3
"""Up to this many words count as one that is written together."""

WordErrorRate = Callable[[Sequence[str], Sequence[str]], float]
"""(transcripts, hypotheses) -> word errors for each word of the transcripts."""


@dataclass(frozen=True)
class Alphabet:
    """Characters by label: LoadGen logs an int64 for each, as the references do."""

    characters: str

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {character: n for n, character in enumerate(self.characters)}

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the labels of a text in small letters; other characters are left out.

        A text without any is one space: LoadGen's log holds no empty answers.
        """
        known = self._labels
        labels = [known[one] for one in text.lower().strip() if one in known]
        return np.array(labels or [0], np.int64)

    def decode(self, raw: bytes) -> str:
        """Return the text of logged labels.

        Raises ``ValueError`` for bytes that are no labels of this alphabet.
        """
        labels = np.frombuffer(raw, "<i8").tolist() if len(raw) % 8 == 0 else [-1]
        if any(not 0 <= label < len(self.characters) for label in labels):
            raise ValueError(
                f"found an answer of {len(raw)} bytes that begins with"
                f" {raw[:16].hex()}, but should be an int64 from 0 to"
                f" {len(self.characters) - 1} for each character"
                " [mlperf_log_accuracy.json]. Run the accuracy mode again."
            )
        return self.to_text(labels)

    def to_text(self, labels: Sequence[int]) -> str:
        """Return the text of labels."""
        return "".join(self.characters[label] for label in labels)


WHISPER = Alphabet(LETTERS + "0123456789$%+-")
"""``labels`` of mlcommons/inference, speech2text/accuracy_eval.py."""
TRANSDUCER = Alphabet(LETTERS)
"""``labels`` of mlcommons/inference, speech_recognition/rnnt/accuracy_eval.py."""


def require_jiwer() -> None:
    """Raise ``RequirementMissing`` unless word errors can be counted."""
    require_package("jiwer", "word errors cannot be counted", SPEECH_EXTRA)


def require_normalizer() -> None:
    """Raise ``RequirementMissing`` unless Whisper's own normalizer is installed."""
    require_jiwer()
    consequence = "spellings cannot be made alike"
    require_package("whisper_normalizer", consequence, SPEECH_EXTRA)
    found = version("whisper-normalizer")
    if found != NORMALIZER:
        raise RequirementMissing(
            f"whisper-normalizer {found} is installed, but should be {NORMALIZER}:"
            " other releases change other words than Whisper's own normalizer, so that"
            f" word accuracy would not be the official one; {SPEECH_EXTRA}."
        )


def word_error_rate(transcripts: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return the word error rate of whole texts (RNN-T's)."""
    import jiwer

    return float(jiwer.wer(list(transcripts), list(hypotheses)))


def normalized_error_rate(
    transcripts: Sequence[str], hypotheses: Sequence[str]
) -> float:
    """Return Whisper's word error rate: spellings and compounds are made alike first.

    mlcommons/inference, speech2text/accuracy_eval.py and helpers.py.
    """
    with warnings.catch_warnings():
        # Python warns of an escape in its source where it compiles it, which not every
        # installer has done; under -W error that would end the run.
        warnings.simplefilter("ignore")
        from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    errors = words = 0
    for transcript, hypothesis in zip(transcripts, hypotheses, strict=True):
        true, heard = normalize(transcript).split(), normalize(hypothesis).split()
        errors += count_errors(*join_compounds(true, heard))
        words += len(true)
    return errors / max(words, 1)


def count_errors(true: Sequence[str], heard: Sequence[str]) -> int:
    """Return how many words differ, are missing or are too many."""
    import jiwer

    if not true:
        return len(heard)
    found = jiwer.process_words(" ".join(true), " ".join(heard))
    return int(found.substitutions + found.deletions + found.insertions)


def join_compounds(
    true: Sequence[str], heard: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return both with words written together where the other has them so.

    Words stand beside each other from the left, one by one, whether they agree or not:
    that is the reference's alignment, and part of the official score.
    """
    joined: tuple[list[str], list[str]] = ([], [])
    i = j = 0
    while i < len(true) and j < len(heard):
        steps = next(_same_words(true[i:], heard[j:]), (1, 1))
        joined[0].append("".join(true[i : i + steps[0]]))
        joined[1].append("".join(heard[j : j + steps[1]]))
        i, j = i + steps[0], j + steps[1]
    return [*joined[0], *true[i:]], [*joined[1], *heard[j:]]


def _same_words(true: Sequence[str], heard: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield how many words of each make the same one, the fewest first."""
    for count in range(1, JOINED_WORDS + 1):
        if count <= len(true) and "".join(true[:count]) == heard[0]:
            yield count, 1
        if count <= len(heard) and "".join(heard[:count]) == true[0]:
            yield 1, count
