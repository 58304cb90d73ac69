"""SQuAD v1.1 as windows of tokens: the official and the embedded data alike.

The rules are those of the MLPerf reference (mlcommons/inference, language/bert:
create_squad_data.py): lower case, windows of 384 tokens every 128, questions cut at
64 tokens.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_TOKENS = 384
MAX_QUESTION = 64
STRIDE = 128


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one paragraph, with every accepted answer."""

    id: str
    text: str
    context: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Features:
    """Questions cut into windows: one row each, as the model reads them."""

    questions: Sequence[Question]
    ids: NDArray[np.int64]
    """[window, longest], padded with 0."""
    lengths: NDArray[np.int32]
    """Tokens of each window: [CLS] question [SEP] context [SEP]."""
    heads: NDArray[np.int32]
    """Tokens before the context, which are segment 0."""
    owners: NDArray[np.int32]
    """Index of each window's question; windows of one question are adjacent."""
    firsts: NDArray[np.int32]
    """The context token with which each window begins."""
    spans: Sequence[NDArray[np.int32]]
    """For each question, [token, 2]: begin and end of its context's tokens in
    characters."""
    unknown: int
    """Id of [UNK]."""


def read_questions(path: Path) -> list[Question]:
    """Read a SQuAD v1.1 file, plain or gzip.

    Raises ``ValueError`` when the file is not SQuAD JSON.
    """
    try:
        raw = path.read_bytes()
        tree = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        questions = [
            Question(
                id=qa["id"],
                text=qa["question"],
                context=paragraph["context"],
                answers=tuple(dict.fromkeys(a["text"] for a in qa["answers"])),
            )
            for article in tree["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"{path} is not SQuAD v1.1: {type(error).__name__}: {error}; it should be"
            ' {"data": [{"paragraphs": [{"context", "qas": [{"id", "question",'
            ' "answers"}]}]}]}. Download it again.'
        ) from error
    empty = [q.id for q in questions if not q.answers]
    if empty or not questions:
        raise ValueError(
            f"{path} has {len(questions)} questions, {len(empty)} without an answer;"
            " SQuAD v1.1 has at least one answer for each (v2.0 does not: use"
            " dev-v1.1.json)."
        )
    return questions


def cut_windows(tokens: int, room: int) -> list[tuple[int, int]]:
    """Return (first, count) of every window of ``room`` over the context's tokens."""
    spans = []
    first = 0
    while first < tokens:
        count = min(tokens - first, room)
        spans.append((first, count))
        if first + count == tokens:
            break
        first += min(count, STRIDE)
    return spans


def tokenize(questions: Sequence[Question], vocab: Path) -> Features:
    """Cut every question into windows.

    Raises ``ValueError`` when the vocabulary lacks one of BERT's special tokens.
    """
    from tokenizers import BertWordPieceTokenizer

    pieces = vocab.read_text(encoding="utf-8").split("\n")
    absent = [t for t in ("[CLS]", "[SEP]", "[UNK]") if t not in pieces]
    if absent:
        raise ValueError(
            f"{vocab} has no {', '.join(absent)}; it should be BERT's uncased"
            " vocabulary, one piece a line. Download it again."
        )
    # from_file: a path given to the class itself is deprecated in older releases.
    tokenizer = BertWordPieceTokenizer.from_file(str(vocab), lowercase=True)
    cls, sep, unknown = map(tokenizer.token_to_id, ("[CLS]", "[SEP]", "[UNK]"))
    contexts: dict[str, tuple[list[int], NDArray[np.int32]]] = {}
    rows: list[list[int]] = []
    heads, owners, firsts = [], [], []
    spans = []
    for number, question in enumerate(questions):
        if question.context not in contexts:
            encoding = tokenizer.encode(question.context, add_special_tokens=False)
            offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            contexts[question.context] = encoding.ids, offsets
        text, offsets = contexts[question.context]
        question_ids = tokenizer.encode(question.text, add_special_tokens=False).ids
        head = [cls, *question_ids[:MAX_QUESTION], sep]
        spans.append(offsets)
        for first, count in cut_windows(len(text), MAX_TOKENS - len(head) - 1):
            rows.append([*head, *text[first : first + count], sep])
            heads.append(len(head))
            owners.append(number)
            firsts.append(first)
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.zeros((len(rows), int(lengths.max(initial=0))), np.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return Features(
        questions=questions,
        ids=ids,
        lengths=lengths,
        heads=np.array(heads, np.int32),
        owners=np.array(owners, np.int32),
        firsts=np.array(firsts, np.int32),
        spans=spans,
        unknown=unknown,
    )
