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
"""What the reference answers when no span is legal."""
ABSENT = -10000.0
"""The logit that the reference gives to tokens that an answer does not cover."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# The reference splits words here and nowhere else (create_squad_data.py).
_BLANK = " \t\r\n\u202f"
_BLANKS = re.compile(f"[{_BLANK}]+")


def find_most_context(parts: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """Return, for each context token, the window that shows most around it."""
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
    """Tell whether lower-casing and accent-stripping keep every character's place."""
    solid = _BLANKS.sub("", words)
    folded = unicodedata.normalize("NFD", solid.lower())
    kept = [c for c in folded if unicodedata.category(c)[0] not in "CZ"]
    return len(solid) == sum(unicodedata.category(c) != "Mn" for c in kept)


def extract_text(context: str, begin: int, end: int, *, whole_words: bool) -> str:
    """Return the answer's text; whole words where characters cannot be aligned.

    The reference falls back to whole words when the tokens hold an [UNK] or the
    normalised words differ in length from the original (``get_final_text``).
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
        shown_best = find_most_context(parts)
        found: tuple[float, int, int] | None = None
        whole = False
        for window in present:
            head, length = int(features.heads[window]), int(features.lengths[window])
            first = int(features.firsts[window])
            values = np.full((length, 2), ABSENT)
            given = logits[window][:length]
            values[: len(given)] = given
            inside = np.zeros(length, bool)
            inside[head : length - 1] = True
            legal = inside.copy()
            mine = window - int(siblings[0])
            legal[head:-1] = shown_best[first : first + length - head - 1] == mine
            best = find_best_span(values, legal, inside)
            if best is not None and (found is None or best[0] > found[0]):
                score, a, b = best
                found = score, a - head + first, b - head + first
                whole = features.unknown in features.ids[window, a : b + 1]
        if found is None:
            answers[owner] = NO_ANSWER
            continue
        places = features.spans[owner]
        answers[owner] = extract_text(
            features.questions[owner].context,
            int(places[found[1], 0]),
            int(places[found[2], 1]),
            whole_words=bool(whole),
        )
    return answers


def normalize(text: str) -> str:
    """Lower-case, then drop ASCII punctuation, articles and surplus blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_exact_match(prediction: str, answer: str) -> bool:
    """Tell whether two answers are the same after normalisation."""
    return normalize(prediction) == normalize(answer)


def compute_f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall over words, 0 to 1."""
    got, wanted = normalize(prediction).split(), normalize(answer).split()
    same = sum((Counter(got) & Counter(wanted)).values())
    return 2 * same / (len(got) + len(wanted)) if same else 0.0


def evaluate(
    questions: Sequence[Question], answers: Mapping[int, str]
) -> dict[str, float]:
    """Return F1 and exact match in percent; an unanswered question counts as 0."""
    em = sum(
        any(is_exact_match(a, t) for t in questions[i].answers)
        for i, a in answers.items()
    )
    total = sum(
        max(compute_f1(a, t) for t in questions[i].answers) for i, a in answers.items()
    )
    count = len(questions)
    return {"F1": 100.0 * total / count, "exact_match": 100.0 * em / count}
