"""TEST01: are the answers of a performance run those of the accuracy run?

The definition is verify_accuracy.py's (mlcommons/inference b66003e1, compliance/
TEST01): the first element of each logged answer equals that of the same sample in the
accuracy log; no element differs, and at least one was compared. Its element is a byte
unless ``--dtype int32`` is given; int32 is taken here wherever all answers divide by
four, so that what passes here passes there with either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import lines
from pytest_mlperf.core.logs.lines import parse

KEPT = 4
"""Bytes of an answer that are compared: one int32."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answers of a performance run compare with the accuracy run's."""

    accuracy_entries: int
    accuracy_duplicates: int
    accuracy_contradictions: int
    """Duplicates with another answer."""
    entries: int
    """Answers of the performance run."""
    matched: int
    """Of them, those whose sample is known."""
    different: int
    """Of the matched, those with another first element."""
    unknown: int
    further: int
    """Of the matched, those that differ only after the first element."""
    element: str
    """``int32`` or ``byte``."""

    @property
    def passed(self) -> bool:
        """The official verdict."""
        return self.different == 0 and self.matched > 0


@dataclass(frozen=True, slots=True)
class _Answer:
    start: bytes
    size: int
    digest: bytes


def compare(accuracy: Path, performance: Path) -> Comparison:
    """Return how the logs of two run folders compare, streaming.

    As in the official script, a sample's answer in the performance log is what its
    next answer there is held against. Raises ``LogError``.
    """
    known: dict[int, _Answer] = {}
    entries = duplicates = contradictions = 0
    sizes: set[int] = set()
    for record in records(accuracy):
        answer = _answer(record)
        sizes.add(answer.size)
        entries += 1
        first = known.setdefault(record["qsl_idx"], answer)
        if first is not answer:
            duplicates += 1
            contradictions += first != answer
    logged = [(r["qsl_idx"], _answer(r)) for r in records(performance)]
    sizes |= {answer.size for _, answer in logged}
    width = 4 if all(size % 4 == 0 for size in sizes) else 1
    matched = different = unknown = further = 0
    for index, answer in logged:
        before = known.get(index)
        known[index] = answer
        if before is None:
            unknown += 1
            continue
        matched += 1
        if before.start[:width] != answer.start[:width]:
            different += 1
        elif before != answer:
            further += 1
    return Comparison(
        entries,
        duplicates,
        contradictions,
        len(logged),
        matched,
        different,
        unknown,
        further,
        "int32" if width == 4 else "byte",
    )


def _answer(record: Mapping[str, Any]) -> _Answer:
    data = bytes.fromhex(record["data"])
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return _Answer(data[:KEPT], len(data), digest)


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a folder's accuracy log; ``LogError`` for a damaged one."""
    path = folder / ACCURACY
    closed = False
    number = 0
    for number, text in lines(path):
        line = text.strip()
        if number == 1 and line == "[":
            continue
        if number == 1 or closed:
            raise LogError(path, number, f"{line[:40]!r}", "a list of answers")
        if line == "]":
            closed = True
            continue
        yield _checked(path, number, line)
    if not closed:
        raise LogError(path, number, "the end of the log without ]", "a whole log")


def _checked(path: Path, number: int, line: str) -> dict[str, Any]:
    record = parse(path, number, line.removesuffix(","))
    try:
        if type(record["qsl_idx"]) is not int:
            raise ValueError(f"qsl_idx {record['qsl_idx']!r}")
        bytes.fromhex(record["data"])
    except (KeyError, TypeError, ValueError) as error:
        found = f"{line[:60]!r} ({str(error)[:40]})"
        required = "a record with qsl_idx and hexadecimal data"
        raise LogError(path, number, found, required) from None
    checked: dict[str, Any] = record
    return checked


def subsets(
    accuracy: Path, performance: Path
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Return the accuracy run's and the performance run's answers of the same samples.

    What create_accuracy_baseline.sh makes of the two logs: every sample that the
    performance run logged. Where a sample was logged twice its first answer counts.
    """
    compliance: dict[int, bytes] = {}
    for record in records(performance):
        compliance.setdefault(record["qsl_idx"], bytes.fromhex(record["data"]))
    baseline: dict[int, bytes] = {}
    for record in records(accuracy):
        if record["qsl_idx"] in compliance:
            baseline.setdefault(record["qsl_idx"], bytes.fromhex(record["data"]))
    return baseline, compliance
