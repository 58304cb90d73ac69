"""TEST09: answers are as long as the reference's, on average.

mlcommons/inference b66003e1, compliance/TEST09/run_verification.py: the mean length in
four-byte tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core import catalog
from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import read_records
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import issue_unique
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.audit import make_sampling
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.rounds.rule import Rule

CHECK = "compliance_output_length"
VERIFY_LENGTH = "verify_output_len.txt"
SHORTEST = "test09_min_output_tokens"
LONGEST = "test09_max_output_tokens"


class OutputLength(AuditTest):
    """TEST09."""

    name = "TEST09"
    needs_token_ids = True
    files = (VERIFY_LENGTH, *report.LOGS, *report.ANSWERS)

    def resolve(self, rule: Rule) -> Audit:
        own = catalog.get(rule.benchmark).length_audit
        if own is None:
            raise ValueError(f"TEST09 has no audit.config for {rule.benchmark}")
        settings = {"min_query_count": own.queries, "min_duration": 0}
        settings |= issue_unique(own.unique_since, rule.round)
        return make_audit(
            self,
            rule,
            make_sampling(10_000, **settings, sample_concatenate_permutation=0),
            f"{SOURCE}TEST09/{rule.benchmark}/audit.config",
            limits={SHORTEST: own.shortest, LONGEST: own.longest},
        )

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        return (report.attempt(self._verify_length, run, CHECK, VERIFY_LENGTH),)

    def _verify_length(self, run: AuditedRun) -> AuditFinding:
        lengths = measure_lengths(run.folder)
        low, high = run.audit.limits[SHORTEST], run.audit.limits[LONGEST]
        made = make_check(
            CHECK,
            low <= lengths.mean <= high,
            f"{lengths.mean:,.2f} tokens on average",
            f"{low:g} to {high:g}",
            ACCURACY,
            "generate with the reference's parameters; answers must not be cut",
        )
        return AuditFinding((made,), VERIFY_LENGTH, format_lengths(lengths, low, high))


@dataclass(frozen=True, slots=True)
class AnswerLengths:
    """How long the answers are, in tokens."""

    entries: int
    mean: float
    shortest: int
    longest: int
    deviation: float
    """Standard deviation of the whole set."""


def measure_lengths(folder: Path) -> AnswerLengths:
    """Return what TEST09 measures; ``LogError`` for a damaged or an empty log."""
    sizes = [len(record["data"]) // 8 for record in read_records(folder)]
    if not sizes:
        raise LogError(folder / ACCURACY, 0, "no answer", "the answers of a run")
    mean = sum(sizes) / len(sizes)
    variance = sum((size - mean) ** 2 for size in sizes) / len(sizes)
    return AnswerLengths(len(sizes), mean, min(sizes), max(sizes), variance**0.5)


def format_lengths(lengths: AnswerLengths, low: float, high: float) -> str:
    """Return verify_output_len.txt."""
    enough, few = lengths.mean >= low, lengths.mean <= high
    lines = [
        report.RULER,
        "TEST09: Verify Output Token Length in Performance Mode",
        report.RULER,
        "",
        "Output Token Length Statistics",
        "-" * 40,
        f"Total samples: {lengths.entries}",
        f"Mean output tokens: {lengths.mean:.2f}",
        f"Min output tokens: {lengths.shortest}",
        f"Max output tokens: {lengths.longest}",
        f"Std deviation: {lengths.deviation:.2f}",
        "",
        report.RULER,
        "Verification Results",
        report.RULER,
        f"Mean output tokens: {lengths.mean:.2f}",
        f"Min threshold: {low}",
        f"Max threshold: {high}",
        f"Min check pass: {enough}",
        f"Max check pass: {few}",
        "",
        report.format_verdict(enough and few),
    ]
    return "\n".join([*lines, ""])


TEST09 = OutputLength()
