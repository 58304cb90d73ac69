"""A small SQuAD file, and logits that answer it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.bert import EMBEDDED
from pytest_mlperf.benchmarks.squad.windows import Features

VOCAB = EMBEDDED / "vocab.txt"

SAMPLE = Path(__file__).parents[1] / "data" / "bert" / "dev-v1.1.json"

SAMPLE_QUESTIONS = 8

INPUTS = {"input_ids": "ids", "input_mask": "mask", "segment_ids": "segments"}


def make_perfect_logits(
    features: Features, starts: Sequence[int]
) -> dict[int, NDArray[Any]]:
    """Return logits that point at the first answer of each question, where shown."""
    out = {}
    for window, owner in enumerate(features.owners):
        head, length = int(features.heads[window]), int(features.lengths[window])
        first = int(features.firsts[window])
        logits = np.full((length, 2), -5.0, np.float32)
        begin = starts[owner]
        end = begin + len(features.questions[owner].answers[0])
        places = features.spans[owner]
        inside = np.flatnonzero((places[:, 0] < end) & (places[:, 1] > begin))
        a, b = inside[0] - first + head, inside[-1] - first + head
        if head <= a and b < length - 1:
            logits[a, 0] = logits[b, 1] = 5.0
        out[window] = logits
    return out


def read_answer_starts(path: Path) -> list[int]:
    """Return where each question's first answer begins."""
    raw = path.read_bytes()
    tree = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    return [
        qa["answers"][0]["answer_start"]
        for article in tree["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
