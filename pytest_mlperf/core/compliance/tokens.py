"""TEST06 and TEST09: what token answers look like.

The definitions are those of mlcommons/inference b66003e1, compliance/TEST06/
run_verification.py (int32 tokens, one end of sequence at most) and compliance/TEST09/
run_verification.py (mean length in four-byte tokens).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pytest_mlperf.core.compliance.answers import records
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError

EOS = 2
"""End of sequence of the Llama 2 tokeniser, the script's default."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """TEST06: the three questions, each with the first sample that fails it."""

    entries: int
    first_token: int | None
    """qsl_idx of an answer that begins with another token than was reported first."""
    ending: int | None
    """qsl_idx of an answer that ends with two or more ends of sequence."""
    length: int | None
    """qsl_idx of an answer with another number of tokens than was reported."""
    streamed: bool
    """False for Offline, where no first token is reported."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """TEST09: how long the answers are, in tokens."""

    entries: int
    mean: float
    shortest: int
    longest: int
    deviation: float
    """Standard deviation of the whole set."""


def consistency(folder: Path, *, streamed: bool, eos: int = EOS) -> Consistency:
    """Return what TEST06 asks of a folder's accuracy log; ``LogError`` if damaged."""
    first: int | None = None
    ending: int | None = None
    length: int | None = None
    count = 0
    for record in records(folder):
        count += 1
        index = record["qsl_idx"]
        answer = tokens(folder, record, "data")
        if streamed and first is None:
            reported = tokens(folder, record, "token_data")
            known = min(len(reported), len(answer))
            first = index if reported[:known] != answer[:known] else None
        if ending is None and trailing(answer, eos) > 1:
            ending = index
        if length is None and record.get("token_count") != len(answer):
            length = index
    return Consistency(count, first, ending, length, streamed)


def trailing(answer: tuple[int, ...], eos: int) -> int:
    """Return how many ends of sequence an answer closes with.

    The script leaves the first token of an answer out of the count.
    """
    return sum(1 for _ in takewhile(lambda token: token == eos, answer[:0:-1]))


def tokens(folder: Path, record: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return the int32 tokens of a record's field; ``LogError`` when they are none."""
    try:
        data = bytes.fromhex(record[key])
        return struct.unpack(f"<{len(data) // 4}i", data)
    except (KeyError, TypeError, ValueError, struct.error):
        found = f"sample {record['qsl_idx']} with {key} {str(record.get(key))[:20]!r}"
        required = "int32 tokens in hexadecimal"
        raise LogError(folder / ACCURACY, 0, found, required) from None


def lengths(folder: Path) -> Lengths:
    """Return what TEST09 measures; ``LogError`` for a damaged or an empty log."""
    sizes = [len(record["data"]) // 8 for record in records(folder)]
    if not sizes:
        raise LogError(folder / ACCURACY, 0, "no answer", "the answers of a run")
    mean = sum(sizes) / len(sizes)
    variance = sum((size - mean) ** 2 for size in sizes) / len(sizes)
    return Lengths(len(sizes), mean, min(sizes), max(sizes), variance**0.5)
