"""From logits to answers: spans, text, exact match and F1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.squad import predictions
from pytest_mlperf.benchmarks.squad import windows
from pytest_mlperf.benchmarks.squad.windows import Question
from tests.support import squad

WORDS = ["city", "the", "Paris", "(1895)", "naïve", "“of”", "people,", "7,5", "東京"]


@given(st.integers(1, 1500), st.integers(129, 381))
def test_each_token_counts_where_it_has_most_context(tokens: int, room: int) -> None:
    """The chosen window shows at least as many tokens on the scarcer side."""
    parts = windows.cut_windows(tokens, room)

    best = predictions.find_most_context(parts)

    for token in range(0, tokens, 13):
        sides = {
            i: min(token - first, first + count - 1 - token) + 0.01 * count
            for i, (first, count) in enumerate(parts)
            if first <= token < first + count
        }
        assert sides[int(best[token])] == max(sides.values())


@settings(max_examples=60)
@given(st.data())
def test_an_answer_is_recovered_from_a_window_that_holds_it(
    data: st.DataObject,
) -> None:
    """Perfect logits give the answer's own text back, whatever the marks around it."""
    count = data.draw(st.integers(1, 700))
    seed = data.draw(st.integers(0, 2**16))
    words = np.random.default_rng(seed).choice(WORDS, count).tolist()
    first = data.draw(st.integers(0, count - 1))
    last = min(count, first + data.draw(st.integers(1, 4)))
    context, answer = " ".join(words), " ".join(words[first:last])
    begin = len(" ".join(words[:first])) + (first > 0)
    question = Question("q", "Which city?", context, (answer,))
    features = windows.tokenize([question], squad.VOCAB)

    found = predictions.predict(features, squad.make_perfect_logits(features, [begin]))

    assert found[0] == answer


def test_perfect_logits_answer_the_official_sample() -> None:
    """First, middle and last windows, accents, dashes and currency signs all score."""
    questions = windows.read_questions(squad.SAMPLE)
    features = windows.tokenize(questions, squad.VOCAB)

    found = predictions.predict(
        features,
        squad.make_perfect_logits(features, squad.read_answer_starts(squad.SAMPLE)),
    )

    assert [found[i] for i in range(len(found))] == [q.answers[0] for q in questions]


def span(**points: tuple[float, float]) -> NDArray[np.float64]:
    """Return 60 tokens of logits, -9 but where named: ``t5=(start, end)``."""
    logits = np.full((60, 2), -9.0)
    for name, pair in points.items():
        logits[int(name[1:])] = pair
    return logits


EVERY = np.ones(60, bool)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        (span(t5=(3, -9), t7=(-9, 4)), (7.0, 5, 7)),
        (span(t7=(3, -9), t5=(2, 4)), (6.0, 5, 5)),  # never backwards
        (span(t5=(3, -9), t34=(-9, 4)), (7.0, 5, 34)),  # 30 tokens: just legal
        (span(t5=(3, 0), t35=(-9, 4)), (3.0, 5, 5)),  # 31 are too many
        (span(t3=(2, 2), t9=(2, 2)), (4.0, 3, 3)),  # a tie goes to the earlier
    ],
)
def test_the_best_legal_span_wins(
    logits: NDArray[Any], expected: tuple[float, int, int]
) -> None:
    """Order, length and ties are settled as the reference does."""
    assert predictions.find_best_span(logits, EVERY, EVERY) == expected


def test_only_the_twenty_best_ends_are_looked_at() -> None:
    """A legal span whose end is the 21st best does not exist."""
    logits = span(t59=(9, -1))
    logits[:20, 1] = 1.0
    only = np.arange(60) == 59

    assert predictions.find_best_span(logits, only, EVERY) is None
    logits[0, 1] = -2.0
    assert predictions.find_best_span(logits, only, EVERY) == (8.0, 59, 59)


def test_no_legal_span_answers_empty() -> None:
    """The reference's nonce answer stands where only the question scores."""
    features = windows.tokenize(
        [Question("q", "What?", "Paris", ("Paris",))], squad.VOCAB
    )
    logits = np.full((int(features.lengths[0]), 2), 0.0)
    features.heads[0] = features.lengths[0] - 1

    found = predictions.predict(features, {0: logits})

    assert found == {0: "empty"}


@pytest.mark.parametrize(
    ("context", "cut", "whole", "expected"),
    [
        ("by Steve Smith's son", (3, 14), False, "Steve Smith"),
        ("by Steve Smith's son", (3, 14), True, "Steve Smith's"),
        ("the naïve one", (4, 9), False, "naïve"),
        ("at cafe\u0301, now", (3, 8), False, "cafe\u0301,"),  # lengths differ
        ("two\n words", (0, 10), False, "two words"),
    ],
)
def test_text_falls_back_to_whole_words_where_characters_do_not_align(
    context: str, cut: tuple[int, int], whole: bool, expected: str
) -> None:
    """As the reference's projection does for [UNK] and combining accents."""
    assert predictions.extract_text(context, *cut, whole_words=whole) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "em", "f1"),
    [
        ("The Cat!", "cat", True, 1.0),
        ("a  cat, an  owl", "cat owl", True, 1.0),
        ("big black cat", "cat", False, 0.5),
        ("the the", "the", True, 0.0),  # nothing is left: EM holds, F1 has no word
        ("Theatre", "atre", False, 0.0),
        ("1,000", "1000", True, 1.0),
        ("1895\u20131902", "18951902", False, 0.0),  # only ASCII marks are dropped
        ("", "cat", False, 0.0),
    ],
)
def test_exact_match_and_f1_follow_the_official_normalization(
    prediction: str, answer: str, em: bool, f1: float
) -> None:
    """Case, articles, ASCII punctuation and blanks do not count."""
    assert predictions.is_exact_match(prediction, answer) == em
    assert predictions.compute_f1(prediction, answer) == pytest.approx(f1)


def test_unanswered_questions_count_as_zero() -> None:
    """The divisor is every question, and the best of several answers counts."""
    questions = [Question("a", "", "", ("x", "y z")), Question("b", "", "", ("x",))]

    scores = predictions.evaluate(questions, {0: "z y"})

    assert scores == {"F1": 50.0, "exact_match": 0.0}
