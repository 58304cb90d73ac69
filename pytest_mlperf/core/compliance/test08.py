"""TEST08: a recommender's predictions keep their entropy in performance mode.

mlcommons/inference b66003e1, compliance/TEST08/run_verification.py. An accuracy run
logs float32 [timestamp, query, predictions, labels, weights, candidates]; a performance
run logs [timestamp, query, predictions].
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import read_records
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.audit import make_sampling
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds.rule import Rule

TOLERANCE = 0.001
"""Largest relative difference of a sample's normalised entropy."""
LEAST = 1e-7
"""Probabilities are clipped to this distance from 0 and 1."""

Floats = tuple[float, ...]


class SameEntropy(AuditTest):
    """TEST08."""

    name = "TEST08"
    needs = ("accuracy",)
    files = (report.VERIFY_ACCURACY,)

    def resolve(self, rule: Rule) -> Audit:
        source = f"{SOURCE}TEST08/{rule.benchmark}/audit.config"
        return make_audit(self, rule, make_sampling(4096), source)

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        check, file = "compliance_accuracy", report.VERIFY_ACCURACY
        return (report.attempt(self._verify_entropy, run, check, file),)

    def _verify_entropy(self, run: AuditedRun) -> AuditFinding:
        entropy = compare_entropies(run.references["accuracy"], run.folder)
        entries = entropy.matched + entropy.unmatched
        text = f"{entropy.matched:,} of {entries:,} samples matched, "
        text += f"{entropy.different:,} differ, by {entropy.worst:.3%} at most"
        made = make_check(
            "compliance_accuracy",
            entropy.passed,
            text,
            f"every sample within {TOLERANCE:.1%}",
            ACCURACY,
            "the performance run must predict as the accuracy run does",
        )
        text = format_entropy(entries, entropy)
        return AuditFinding((made,), report.VERIFY_ACCURACY, text)


@dataclass(frozen=True, slots=True)
class EntropyComparison:
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


def compute_entropy(predictions: Floats, labels: Floats, weights: Floats) -> float:
    """Return the cross entropy over that of the labels' weighted mean."""
    total = sum(weights)
    if total == 0:
        return 0.0
    labels = tuple(map(clip_probability, labels))
    cross = -sum(
        weight * (label * log(p) + (1 - label) * log(1 - p))
        for weight, label, p in zip(
            weights, labels, map(clip_probability, predictions), strict=True
        )
    )
    mean = clip_probability(
        sum(w * x for w, x in zip(weights, labels, strict=True)) / total
    )
    base = -mean * log(mean) - (1 - mean) * log(1 - mean)
    return cross / (base * total) if base else 0.0


def clip_probability(probability: float) -> float:
    """Return a probability that has a logarithm."""
    return min(max(probability, LEAST), 1 - LEAST)


def compare_entropies(accuracy: Path, performance: Path) -> EntropyComparison:
    """Return how the predictions of two run folders compare; ``LogError`` if damaged.

    Samples are known by timestamp and query: LoadGen's index is not in their order.
    """
    known: dict[tuple[int, int], tuple[float, Floats, Floats]] = {}
    for record in read_records(accuracy):
        key, values = read_floats(accuracy, record, 6)
        count = int(values[-1])
        if count < 1 or len(values) != 1 + 3 * count:
            raise make_damage_error(accuracy, record, f"3 x {count} + 3 numbers")
        labels, weights = values[count : 2 * count], values[2 * count : 3 * count]
        known[key] = (compute_entropy(values[:count], labels, weights), labels, weights)
    matched = unmatched = different = 0
    worst = 0.0
    for record in read_records(performance):
        key, predictions = read_floats(performance, record, 3)
        if key not in known:
            unmatched += 1
            continue
        matched += 1
        before, labels, weights = known[key]
        if len(predictions) != len(labels):
            raise make_damage_error(performance, record, f"2 + {len(labels)} numbers")
        gap = compute_difference(before, compute_entropy(predictions, labels, weights))
        worst = max(worst, gap)
        different += gap > TOLERANCE
    return EntropyComparison(matched, unmatched, different, worst)


def compute_difference(before: float, after: float) -> float:
    """Return the relative difference; infinite where only one of them is 0."""
    if before == after == 0:
        return 0.0
    return abs(after - before) / abs(before) if before and after else float("inf")


def read_floats(
    folder: Path, record: Mapping[str, Any], least: int
) -> tuple[tuple[int, int], Floats]:
    """Return timestamp and query of a record, and its other numbers."""
    data = bytes.fromhex(record["data"])
    if len(data) % 4 or len(data) < 4 * least:
        raise make_damage_error(folder, record, f"at least {least} float32")
    values: Sequence[float] = struct.unpack(f"<{len(data) // 4}f", data)
    if not all(abs(value) < float("inf") for value in values):
        raise make_damage_error(folder, record, "finite numbers")
    return (int(values[0]), int(values[1])), tuple(values[2:])


def make_damage_error(
    folder: Path, record: Mapping[str, Any], required: str
) -> LogError:
    """Return the error of a record that is not what the test logs."""
    size = len(record["data"]) // 2
    found = f"sample {record['qsl_idx']} with an answer of {size} bytes"
    return LogError(folder / ACCURACY, 0, found, required)


def format_entropy(entries: int, entropy: EntropyComparison) -> str:
    """Return verify_accuracy.txt."""
    lines = [
        f"num_perf_log_entries = {entries}",
        f"num_matched = {entropy.matched}",
        f"num_unmatched = {entropy.unmatched}",
        f"num_ne_mismatch = {entropy.different}",
        f"tolerance = {TOLERANCE * 100:.2f}%",
        "",
        report.format_verdict(entropy.passed),
    ]
    return "\n".join([*lines, ""])


TEST08 = SameEntropy()
