"""Labels and the two official word error rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.speech import transcripts
from pytest_mlperf.benchmarks.speech.transcripts import count_errors
from pytest_mlperf.benchmarks.speech.transcripts import join_compounds
from pytest_mlperf.benchmarks.speech.transcripts import normalized_error_rate
from pytest_mlperf.benchmarks.speech.transcripts import word_error_rate


@given(st.text(transcripts.WHISPER.characters))
def test_labels_come_back_as_the_text(text: str) -> None:
    """Without the blanks at both ends; an empty text is one space."""
    raw = transcripts.WHISPER.encode(text).tobytes()

    assert transcripts.WHISPER.decode(raw) == (text.strip() or " ")


def test_other_characters_are_left_out() -> None:
    """As the reference's SUT does with what its labels do not have."""
    labels = transcripts.WHISPER.encode(" It's 5 o'clock, naïve! ")

    assert transcripts.WHISPER.decode(labels.tobytes()) == "it's 5 o'clock nave"
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    "raw", [b"\x01", np.array([42], "<i8").tobytes(), np.array([-1], "<i8").tobytes()]
)
def test_bytes_that_are_no_labels_are_refused(raw: bytes) -> None:
    """42 characters have labels 0 to 41."""
    with pytest.raises(ValueError, match="int64 from 0 to 41 for each character"):
        transcripts.WHISPER.decode(raw)


def test_rnnts_rate_is_of_all_words_together() -> None:
    """One word of two is wrong, none of four: 1 of 6, not the mean of the two."""
    found = word_error_rate(["a b", "c d e f"], ["a x", "c d e f"])

    assert found == pytest.approx(1 / 6)


# Expected values: mlcommons/inference b66003e1, compute_wer_with_concatenation.
@pytest.mark.parametrize(
    ("true", "heard", "errors"),
    [
        ("ice cream is good", "icecream is good", 0),
        ("icecream is good", "ice cream is good", 0),
        ("a b c d", "abc d", 0),
        ("a b c d", "abcd", 4),
        ("one two", "", 2),
        ("", "one two", 2),
        ("one stone bridge", "stonebridge", 3),
        ("the old house", "the house", 1),
    ],
)
def test_words_written_together_count_as_the_reference_counts(
    true: str, heard: str, errors: int
) -> None:
    """Up to three words, found from the left, one by one."""
    assert count_errors(*join_compounds(true.split(), heard.split())) == errors


def test_spellings_are_alike_before_words_are_counted() -> None:
    """Whisper's normalizer: numbers, titles, British spellings, contractions."""
    true = ["mister colour said twenty five", "he won't"]
    heard = ["Mr. Color said 25.", "He will not!"]

    assert normalized_error_rate(true, heard) == 0


def test_the_normalizer_is_whispers_own() -> None:
    """Later releases of the package know more contractions than Whisper does."""
    assert normalized_error_rate(["'cause"], ["because"]) == 1


def test_another_release_of_the_normalizer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its score would not be the official one."""
    monkeypatch.setattr(transcripts, "NORMALIZER", "0.0.1")
    with pytest.raises(RequirementMissing, match=r"0\.1\.0 is installed, but should"):
        transcripts.require_normalizer()
