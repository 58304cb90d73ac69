"""TEST01: the answers in performance mode are those of accuracy mode, as fast.

verify_accuracy.py (mlcommons/inference b66003e1, compliance/TEST01): the first element
of each logged answer equals that of the same sample in the accuracy log; no element
differs, and at least one was compared. Its element is a byte unless ``--dtype int32``
is given; int32 is taken here wherever all answers divide by four, so that what passes
here passes there with either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mlperf.core import catalog
from pytest_mlperf.core import rounds
from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import format_scores
from pytest_mlperf.core.compliance.answers import read_common_answers
from pytest_mlperf.core.compliance.answers import read_records
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import V2_SOURCE
from pytest_mlperf.core.compliance.audit import AcceptsScores
from pytest_mlperf.core.compliance.audit import AnswerScorer
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import References
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.audit import make_sampling
from pytest_mlperf.core.compliance.speed import KEYS
from pytest_mlperf.core.compliance.speed import V2_KEYS
from pytest_mlperf.core.compliance.speed import SpeedComparison
from pytest_mlperf.core.compliance.speed import SpeedTest
from pytest_mlperf.core.compliance.speed import compare_both_ways
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.rounds.rule import Rule

COMPARED_BYTES = 4
"""Bytes of an answer that are compared: one int32."""


class SameAnswers(SpeedTest, AcceptsScores):
    """TEST01."""

    name = "TEST01"
    needs = ("performance", "accuracy")
    as_performance = True
    is_timed = True
    labels = ("Reference score", "Test score")
    files = (
        report.VERIFY_ACCURACY,
        report.VERIFY_PERFORMANCE,
        *report.LOGS,
        *report.ANSWERS,
    )
    score_files = (report.BASELINE, report.COMPLIANCE)

    def resolve(self, rule: Rule) -> Audit:
        target = catalog.get(rule.benchmark).logged_answers
        if not target:
            raise ValueError(f"TEST01 has no audit.config for {rule.benchmark}")
        source = V2_SOURCE if rounds.is_before(rule.round, "v2.1") else SOURCE
        source += f"TEST01/{rule.benchmark}/audit.config"
        return make_audit(self, rule, make_sampling(target), source)

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        check, file = "compliance_accuracy", report.VERIFY_ACCURACY
        answers = report.attempt(self._verify_answers, run, check, file)
        return answers, self.compare_speed(run)

    def _verify_answers(self, run: AuditedRun) -> AuditFinding:
        """Compare the answers, or the scores where an engine is not deterministic."""
        answers = compare_answers(run.references["accuracy"], run.folder)
        same = answers.matched - answers.different
        text = f"{same:,} of {answers.matched:,} answers agree in the first "
        text += answers.element
        if answers.further:
            text += f", {answers.further:,} of them differ later"
        if answers.unknown:
            text += f", {answers.unknown:,} of samples that the accuracy run lacks"
        required = "all of them, and at least one"
        passed, remedy = answers.passed, ""
        if not passed and answers.matched:
            passed, score, remedy = self.compare_scores(run)
            text += f"; {score}"
            required += ", or the same accuracy"
        if not answers.matched:
            remedy = "LoadGen logged no answer of a known sample: repeat the run"
        name = "compliance_accuracy"
        made = make_check(name, passed, text, required, ACCURACY, remedy)
        return AuditFinding((made,), report.VERIFY_ACCURACY, format_answers(answers))

    def compare(self, reference: Log, tested: Log, rule: Rule) -> SpeedComparison:
        """Within 10 %, or 20 % for quick streams; up to v2.0 the bounds fail."""
        v2 = rounds.is_before(rule.round, "v2.1")
        keys = V2_KEYS if v2 else KEYS
        return compare_both_ways(reference, tested, keys, strict=v2)

    def compare_scores(self, run: AuditedRun) -> tuple[bool, str, str]:
        """Return whether baseline and compliance score agree, found and remedy.

        check_compliance_acc_dir of both checkers: |1 - baseline / compliance| within
        1 %, 0.1 % where the benchmark's name has 99.9.
        """
        own = [one.metric for one in run.rule.accuracy]
        baseline, compliance = (
            read_accuracy_txt(run.folder, name, own).metrics
            for name in (report.BASELINE, report.COMPLIANCE)
        )
        deltas = catalog.get(run.rule.benchmark).score_deltas
        shown = []
        for limit in run.rule.accuracy:
            name = limit.metric
            allowed = deltas.get(name, 0.1 if "99.9" in run.rule.model else 1.0)
            before, after = baseline.get(name, 0.0), compliance.get(name, 0.0)
            if not before or not after:
                remedy = f"both texts need a {name} above 0 to be compared"
                return False, f"{name} {after:g} against {before:g}", remedy
            delta = abs(1 - before / after) * 100
            shown.append(f"{name} {after:g} against {before:g} ({delta:.3f} %)")
            if delta > allowed:
                remedy = f"{name} may differ by {allowed:g} %: the engine answers"
                remedy += " otherwise in performance mode than in accuracy mode"
                return False, shown[-1], remedy
        return bool(shown), ", ".join(shown) or "no metric in the round", ""

    def scores(
        self, folder: Path, references: References, workload: AnswerScorer
    ) -> Mapping[str, str]:
        """Score the samples that the audited run logged, where answers differ."""
        accuracy = references["accuracy"]
        if compare_answers(accuracy, folder).passed:
            return {}
        pairs = zip(
            self.score_files, read_common_answers(accuracy, folder), strict=True
        )
        return {file: format_scores(workload, answers) for file, answers in pairs}

    def official_files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Yield the two accuracy texts where answers differ, and only there: the
        v5.1.1 checker takes no other file list.
        """
        yield from super().official_files(folder)
        text = folder / report.VERIFY_ACCURACY
        if text.is_file() and not report.has_passed(read_text(text)):
            for name in self.score_files:
                yield f"accuracy/{name}", folder / name


@dataclass(frozen=True, slots=True)
class AnswerComparison:
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


def compare_answers(accuracy: Path, performance: Path) -> AnswerComparison:
    """Return how the logs of two run folders compare, streaming.

    As in the official script, a sample's answer in the performance log is compared with
    its next answer there. Raises ``LogError``.
    """
    known: dict[int, _Answer] = {}
    entries = duplicates = contradictions = 0
    sizes: set[int] = set()
    for record in read_records(accuracy):
        answer = _digest_answer(record)
        sizes.add(answer.size)
        entries += 1
        first = known.setdefault(record["qsl_idx"], answer)
        if first is not answer:
            duplicates += 1
            contradictions += first != answer
    logged = [(r["qsl_idx"], _digest_answer(r)) for r in read_records(performance)]
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
    return AnswerComparison(
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


def _digest_answer(record: Mapping[str, Any]) -> _Answer:
    data = bytes.fromhex(record["data"])
    digest = hashlib.blake2b(data, digest_size=16).digest()
    return _Answer(data[:COMPARED_BYTES], len(data), digest)


def format_answers(answers: AnswerComparison) -> str:
    """Return verify_accuracy.txt."""
    counts = {
        "num_acc_log_entries": answers.accuracy_entries,
        "num_acc_log_duplicate_keys": answers.accuracy_duplicates,
        "num_acc_log_data_mismatch": answers.accuracy_contradictions,
        "num_perf_log_entries": answers.entries,
        "num_perf_log_qsl_idx_match": answers.matched,
        "num_perf_log_data_mismatch": answers.different,
        "num_missing_qsl_idxs": answers.unknown,
    }
    lines = [f"{name} = {count}" for name, count in counts.items()]
    return "\n".join([*lines, report.format_verdict(answers.passed), ""])


TEST01 = SameAnswers()
