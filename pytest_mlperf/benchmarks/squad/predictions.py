"""From logits to answers by SQuAD v1.1's rules: best span, text, exact match, F1.

The rules are those of the MLPerf reference (mlcommons/inference, language/bert:
accuracy-squad.py and evaluate_v1.1.py): the 20 best starts and ends, answers of at
most 30 tokens, the best of all windows of a question.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.squad.windows import Features
from pytest_mlperf.benchmarks.squad.windows import Question

BEST = 20
MAX_ANSWER = 30
NO_ANSWER = "empty"
"""The reference's answer where no span is legal."""
ABSENT = -10000.0
"""The logit that the reference gives to tokens that an answer does not cover."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# The reference splits words here and nowhere else (create_squad_data.py).
_BLANK = " \t\r\n\u202f"
_BLANKS = re.compile(f"[{_BLANK}]+")


def find_most_context(parts: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """Return, for each context token, the window with most context around it."""
    total = max(first + count for first, count in parts)
    place = np.arange(total)
    score = np.full((len(parts), total), -np.inf)
    for row, (first, count) in zip(score, parts, strict=True):
        inside = slice(first, first + count)
        around = np.minimum(place[inside] - first, first + count - 1 - place[inside])
        row[inside] = around + 0.01 * count
    best: NDArray[np.intp] = score.argmax(axis=0)
    return best


def find_best_span(
    logits: NDArray[Any], legal_start: NDArray[np.bool_], legal_end: NDArray[np.bool_]
) -> tuple[float, int, int] | None:
    """Return score, first and last token of the best legal span, or None.

    ``logits`` is [token, 2]. A span is legal when both ends are among their 20 best,
    in order, and at most 30 tokens apart; ties go to the earlier of the n-best.
    """
    starts, ends = np.argsort(-logits, axis=0, kind="stable")[:BEST].T
    starts, ends = starts[legal_start[starts]], ends[legal_end[ends]]
    reach = ends[None, :] - starts[:, None]
    score = logits[starts, 0].astype(float)[:, None] + logits[ends, 1].astype(float)
    score[(reach < 0) | (reach >= MAX_ANSWER)] = -np.inf
    if not score.size or np.isneginf(score.max()):
        return None
    row, column = divmod(int(score.argmax()), len(ends))
    return float(score[row, column]), int(starts[row]), int(ends[column])


def _keeps_positions(words: str) -> bool:
    """Return whether lower-casing and accent-stripping keep every character's place."""
    solid = _BLANKS.sub("", words)
    folded = unicodedata.normalize("NFD", solid.lower())
    letters = [c for c in folded if unicodedata.category(c)[0] not in "CZ"]
    return len(solid) == sum(unicodedata.category(c) != "Mn" for c in letters)


def extract_text(context: str, begin: int, end: int, *, whole_words: bool) -> str:
    """Return the answer's text; whole words where characters cannot be aligned.

    The reference falls back to whole words when the tokens hold an [UNK] or the
    normalized words differ in length from the original (``get_final_text``).
    """
    left, right = begin, end
    while left > 0 and context[left - 1] not in _BLANK:
        left -= 1
    while right < len(context) and context[right] not in _BLANK:
        right += 1
    words = _BLANKS.sub(" ", context[left:right])
    if whole_words or not _keeps_positions(words):
        return words
    return _BLANKS.sub(" ", context[begin:end])


def predict(features: Features, logits: Mapping[int, NDArray[Any]]) -> dict[int, str]:
    """Return question index -> answer text from window index -> [token, 2] logits.

    The best span of all windows of a question wins; windows without logits are left
    out, and questions without any window are absent from the answer.
    """
    groups: dict[int, list[int]] = {}
    for window in sorted(logits):
        groups.setdefault(int(features.owners[window]), []).append(window)
    answers = {}
    for owner, present in groups.items():
        siblings = np.flatnonzero(features.owners == owner)
        context_tokens = features.lengths[siblings] - features.heads[siblings] - 1
        parts = list(zip(features.firsts[siblings], context_tokens, strict=True))
        best_windows = find_most_context(parts)
        winner: tuple[float, int, int] | None = None
        has_unknown = False
        for window in present:
            head, length = int(features.heads[window]), int(features.lengths[window])
            first = int(features.firsts[window])
            values = np.full((length, 2), ABSENT)
            window_logits = logits[window][:length]
            values[: len(window_logits)] = window_logits
            inside = np.zeros(length, bool)
            inside[head : length - 1] = True
            legal = inside.copy()
            position = window - int(siblings[0])
            legal[head:-1] = best_windows[first : first + length - head - 1] == position
            span = find_best_span(values, legal, inside)
            if span is not None and (winner is None or span[0] > winner[0]):
                score, a, b = span
                winner = score, a - head + first, b - head + first
                has_unknown = features.unknown in features.ids[window, a : b + 1]
        if winner is None:
            answers[owner] = NO_ANSWER
            continue
        offsets = features.spans[owner]
        answers[owner] = extract_text(
            features.questions[owner].context,
            int(offsets[winner[1], 0]),
            int(offsets[winner[2], 1]),
            whole_words=bool(has_unknown),
        )
    return answers


def normalize(text: str) -> str:
    """Lower-case, then drop ASCII punctuation, articles and surplus blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_exact_match(prediction: str, answer: str) -> bool:
    """Return whether two answers are the same after normalization."""
    return normalize(prediction) == normalize(answer)


def compute_f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall over words, 0 to 1."""
    words, expected = normalize(prediction).split(), normalize(answer).split()
    same = sum((Counter(words) & Counter(expected)).values())
    return 2 * same / (len(words) + len(expected)) if same else 0.0


def best_f1(prediction: str, accepted: Sequence[str]) -> float:
    """Return the F1 of an answer against the accepted one that it is closest to."""
    return max(compute_f1(prediction, text) for text in accepted)


def evaluate(
    questions: Sequence[Question], answers: Mapping[int, str]
) -> dict[str, float]:
    """Return F1 and exact match in percent; an unanswered question counts as 0."""
    em = sum(
        any(is_exact_match(a, t) for t in questions[i].answers)
        for i, a in answers.items()
    )
    total = sum(best_f1(a, questions[i].answers) for i, a in answers.items())
    count = len(questions)
    return {"F1": 100.0 * total / count, "exact_match": 100.0 * em / count}
