"""Questions, paragraphs and answers of SQuAD v1.1's size, made up word by word.

10,570 questions become 10,833 windows, as the dev set's do, and go through the same
scoring as real ones. A word is a token, so that no tokenizer is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.squad.windows import MAX_TOKENS
from pytest_mlperf.benchmarks.squad.windows import Features
from pytest_mlperf.benchmarks.squad.windows import Question
from pytest_mlperf.benchmarks.squad.windows import cut_windows
from pytest_mlperf.benchmarks.squad.workload import SquadDataset
from pytest_mlperf.benchmarks.squad.workload import SquadWorkload
from pytest_mlperf.benchmarks.standins.synthetic import MODEL
from pytest_mlperf.benchmarks.standins.synthetic import scatter

QUESTIONS = 10_570
WINDOWS = 10_833
"""Questions and windows of the dev set; the surplus are second windows."""
QUESTIONS_A_PARAGRAPH = 5
LONG = 400
"""Tokens of a paragraph that takes two windows, whatever the question's length."""
SEED = 20_833
SYLLABLES = [c + v for c in "bdfgklmnprstv" for v in "aeiou"]
WORDS = [x + y for x in SYLLABLES for y in SYLLABLES]
FIRST_ID = 1000
"""Token of the first word; smaller ones are BERT's special tokens."""
CLS, SEP, UNKNOWN = 101, 102, 100
LOUD = 12.0
"""Logit of an answer's ends; all others lie below -6."""

Span = tuple[int, int]


def make_questions() -> tuple[list[Question], list[NDArray[np.int64]], list[Span]]:
    """Return the questions, each one's context as words, and its answer's span.

    Answers are early in their paragraph, so that the first window of a long one has it.
    """
    rng = np.random.default_rng(SEED)
    questions: list[Question] = []
    contexts: list[NDArray[np.int64]] = []
    answers: list[Span] = []
    surplus = WINDOWS - QUESTIONS
    text = ""
    for number in range(QUESTIONS):
        # The long paragraphs come last.
        is_long = number >= QUESTIONS - surplus
        if number % QUESTIONS_A_PARAGRAPH == 0 or number == QUESTIONS - surplus:
            size = LONG if is_long else int(rng.integers(60, 280))
            words = rng.integers(0, len(WORDS), size)
            text = " ".join(WORDS[w] for w in words)
        first = int(rng.integers(0, min(len(words) - 6, 100)))
        last = first + int(rng.integers(0, 5))
        question_words = rng.integers(0, len(WORDS), int(rng.integers(6, 20)))
        answer = " ".join(WORDS[w] for w in words[first : last + 1])
        question_text = " ".join(WORDS[w] for w in question_words)
        questions.append(
            Question(f"synthetic-{number:05}", question_text, text, (answer,))
        )
        contexts.append(words)
        answers.append((first, last))
    return questions, contexts, answers


def make_features() -> tuple[Features, NDArray[np.int32]]:
    """Return the windows, and in each the answer's first and last token ([window, 2]):
    0 and 0 where a window does not have the answer.
    """
    questions, contexts, answers = make_questions()
    rows: list[list[int]] = []
    table_rows: list[tuple[int, int, int, int, int]] = []
    spans = []
    for number, question in enumerate(questions):
        words = contexts[number]
        ends = np.arange(1, len(words) + 1) * 5 - 1  # four letters and a blank
        spans.append(np.stack([ends - 4, ends], axis=1).astype(np.int32))
        question_ids = [FIRST_ID + WORDS_AT[word] for word in question.text.split()]
        head = [CLS, *question_ids, SEP]
        first, last = answers[number]
        for start, count in cut_windows(len(words), MAX_TOKENS - len(head) - 1):
            context_words = words[start : start + count]
            rows.append([*head, *(FIRST_ID + context_words).tolist(), SEP])
            is_shown = start <= first and last < start + count
            offset = len(head) - start
            answer_ends = (first + offset, last + offset) if is_shown else (0, 0)
            table_rows.append((len(head), number, start, *answer_ends))
    lengths = np.array([len(row) for row in rows], np.int32)
    # 16 bits are enough for these words, and a quarter of a tokenizer's 64.
    ids: NDArray[Any] = np.zeros((len(rows), int(lengths.max())), np.int16)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    table = np.array(table_rows, np.int32)
    features = Features(
        questions=questions,
        ids=ids,
        lengths=lengths,
        heads=table[:, 0].copy(),
        owners=table[:, 1].copy(),
        firsts=table[:, 2].copy(),
        spans=spans,
        unknown=UNKNOWN,
    )
    return features, table[:, 3:].copy()


class TrueLogits(SquadDataset):
    """Windows that gather the logits of a perfect model."""

    def __init__(self, features: Features, answers: NDArray[np.int32]) -> None:
        super().__init__(features, {}, dtype=np.dtype(np.int16))
        self._answers = answers

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return start and end logits: float32 [batch, longest]."""
        picked = np.asarray(indices, np.int64)
        width = int(self.lengths[picked].max())
        noise = scatter(picked, width) * 2 - 8
        logits = {}
        for name, ends in zip(MODEL_OUTPUTS, self._answers[picked].T, strict=True):
            rows = noise.astype(np.float32)
            shown = np.flatnonzero(ends)
            rows[shown, ends[shown]] = LOUD
            logits[name] = rows
        return logits


def open_synthetic() -> SquadWorkload:
    """Return the workload of a rehearsal."""
    features, answers = make_features()
    return SquadWorkload(
        kind="synthetic",
        title=f"synthetic: {QUESTIONS:,} made-up questions, {WINDOWS:,} windows",
        model=replace(MODEL, outputs=MODEL_OUTPUTS, dynamic_length=True),
        dataset=TrueLogits(features, answers),
        reference={"F1": 100.0},
        features=features,
        files=(Path(__file__),),
    )


MODEL_OUTPUTS = ("start_logits", "end_logits")
WORDS_AT = {word: number for number, word in enumerate(WORDS)}
