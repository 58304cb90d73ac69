"""SQuAD's questions cut into windows of tokens."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.benchmarks.squad import windows
from tests.support import squad

NO_ANSWERS = json.dumps(
    {
        "data": [
            {
                "paragraphs": [
                    {"context": "", "qas": [{"id": "", "question": "", "answers": []}]}
                ]
            }
        ]
    }
)


@given(st.integers(1, 2000), st.integers(1, 381))
def test_windows_cover_every_token_in_steps_of_the_stride(
    tokens: int, room: int
) -> None:
    """No token is lost, no window is larger than the room, none is superfluous."""
    found = windows.cut_windows(tokens, room)

    covered = {t for first, count in found for t in range(first, first + count)}
    assert covered == set(range(tokens))
    assert all(count <= room for _, count in found)
    steps = {b[0] - a[0] for a, b in itertools.pairwise(found)}
    assert steps <= {min(room, windows.STRIDE)}
    assert [f + n for f, n in found if f + n >= tokens] == [tokens]


def test_long_questions_are_cut_and_windows_fit() -> None:
    """Questions keep 64 tokens and no window exceeds 384."""
    features = windows.tokenize(windows.read_questions(squad.SAMPLE), squad.VOCAB)

    assert features.heads[-1] == 64 + 2
    assert features.lengths.max() == 384
    assert len(set(features.owners.tolist())) == squad.SAMPLE_QUESTIONS
    assert len(features.lengths) > squad.SAMPLE_QUESTIONS


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path: Path) -> None:
    """The message names the file and the tokens."""
    (tmp_path / "vocab.txt").write_text("[UNK]\nword\n")

    with pytest.raises(ValueError, match=r"vocab\.txt has no \[CLS\], \[SEP\]"):
        windows.tokenize(windows.read_questions(squad.SAMPLE), tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not SQuAD v1.1"),
        ('{"data": [{}]}', "KeyError: 'paragraphs'"),
        ('{"data": []}', "has 0 questions"),
        (
            NO_ANSWERS,
            "1 without an answer",
        ),
    ],
)
def test_a_file_that_is_not_squad_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """The message says what was found and what the file should be."""
    path = tmp_path / "dev.json"
    path.write_text(text)

    with pytest.raises(ValueError, match=re.escape(message)):
        windows.read_questions(path)
