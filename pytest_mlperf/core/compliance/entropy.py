"""TEST08: do a recommender's predictions keep their entropy in performance mode?

The definition is that of mlcommons/inference b66003e1, compliance/TEST08/
run_verification.py. An accuracy run logs float32 [timestamp, query, predictions,
labels, weights, candidates]; a performance run logs [timestamp, query, predictions].
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from pytest_mlperf.core.compliance.answers import records
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError

TOLERANCE = 0.001
"""Largest relative difference of a sample's normalised entropy."""
LEAST = 1e-7
"""Probabilities are kept this far from 0 and 1."""

Floats = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entropy:
    """How the samples' entropies compare."""

    matched: int
    unmatched: int
    different: int
    worst: float
    """Largest relative difference."""

    @property
    def passed(self) -> bool:
        """The official verdict."""
        return self.matched > 0 and not self.unmatched and not self.different


def normalised(predictions: Floats, labels: Floats, weights: Floats) -> float:
    """Return the cross entropy over that of the labels' weighted mean."""
    total = sum(weights)
    if total == 0:
        return 0.0
    labels = tuple(map(clipped, labels))
    cross = -sum(
        weight * (label * log(p) + (1 - label) * log(1 - p))
        for weight, label, p in zip(
            weights, labels, map(clipped, predictions), strict=True
        )
    )
    mean = clipped(sum(w * x for w, x in zip(weights, labels, strict=True)) / total)
    base = -mean * log(mean) - (1 - mean) * log(1 - mean)
    return cross / (base * total) if base else 0.0


def clipped(probability: float) -> float:
    """Return a probability that has a logarithm."""
    return min(max(probability, LEAST), 1 - LEAST)


def compare(accuracy: Path, performance: Path) -> Entropy:
    """Return how the predictions of two run folders compare; ``LogError`` if damaged.

    Samples are known by timestamp and query: LoadGen's index is not in their order.
    """
    known: dict[tuple[int, int], tuple[float, Floats, Floats]] = {}
    for record in records(accuracy):
        key, values = floats(accuracy, record, 6)
        count = int(values[-1])
        if count < 1 or len(values) != 1 + 3 * count:
            raise damaged(accuracy, record, f"3 x {count} + 3 numbers")
        labels, weights = values[count : 2 * count], values[2 * count : 3 * count]
        known[key] = normalised(values[:count], labels, weights), labels, weights
    matched = unmatched = different = 0
    worst = 0.0
    for record in records(performance):
        key, predictions = floats(performance, record, 3)
        if key not in known:
            unmatched += 1
            continue
        matched += 1
        before, labels, weights = known[key]
        if len(predictions) != len(labels):
            raise damaged(performance, record, f"2 + {len(labels)} numbers")
        gap = relative(before, normalised(predictions, labels, weights))
        worst = max(worst, gap)
        different += gap > TOLERANCE
    return Entropy(matched, unmatched, different, worst)


def relative(before: float, after: float) -> float:
    """Return the relative difference; without bound where only one of them is 0."""
    if before == after == 0:
        return 0.0
    return abs(after - before) / abs(before) if before and after else float("inf")


def floats(
    folder: Path, record: Mapping[str, Any], least: int
) -> tuple[tuple[int, int], Floats]:
    """Return timestamp and query of a record, and its other numbers."""
    data = bytes.fromhex(record["data"])
    if len(data) % 4 or len(data) < 4 * least:
        raise damaged(folder, record, f"at least {least} float32")
    values: Sequence[float] = struct.unpack(f"<{len(data) // 4}f", data)
    if not all(abs(value) < float("inf") for value in values):
        raise damaged(folder, record, "finite numbers")
    return (int(values[0]), int(values[1])), tuple(values[2:])


def damaged(folder: Path, record: Mapping[str, Any], required: str) -> LogError:
    """Return the complaint about one record."""
    size = len(record["data"]) // 2
    found = f"sample {record['qsl_idx']} with an answer of {size} bytes"
    return LogError(folder / ACCURACY, 0, found, required)
