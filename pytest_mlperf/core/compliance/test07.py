"""TEST07: a performance run over the accuracy set reaches an accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_mlperf.core import catalog
from pytest_mlperf.core.checks.outcome import make_check
from pytest_mlperf.core.compliance import report
from pytest_mlperf.core.compliance.answers import format_scores
from pytest_mlperf.core.compliance.answers import read_common_answers
from pytest_mlperf.core.compliance.audit import SOURCE
from pytest_mlperf.core.compliance.audit import AnswerScorer
from pytest_mlperf.core.compliance.audit import Audit
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.compliance.audit import AuditTest
from pytest_mlperf.core.compliance.audit import References
from pytest_mlperf.core.compliance.audit import issue_unique
from pytest_mlperf.core.compliance.audit import make_audit
from pytest_mlperf.core.compliance.audit import make_sampling
from pytest_mlperf.core.logs.accuracy import read_accuracy_txt
from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.rounds.rule import Rule

THRESHOLD = "test07_accuracy_threshold"


class AccuracyInPerformance(AuditTest):
    """TEST07."""

    name = "TEST07"
    files = (report.VERIFY_ACCURACY, *report.LOGS, *report.ANSWERS)

    def resolve(self, rule: Rule) -> Audit:
        own = catalog.get(rule.benchmark).accuracy_audit
        if own is None:
            raise ValueError(f"TEST07 has no audit.config for {rule.benchmark}")
        settings = make_sampling(
            own.samples,
            min_query_count=own.samples,
            min_duration=0,
            **issue_unique(own.unique_since, rule.round),
            sample_concatenate_permutation=0,
        )
        source = f"{SOURCE}TEST07/{rule.benchmark}/audit.config"
        limits = {THRESHOLD: own.threshold}
        return make_audit(self, rule, settings, source, limits=limits)

    def refusal(self, answered_by: str = "", *, tells_token_ids: bool = True) -> str:
        del answered_by, tells_token_ids
        return (
            "TEST07 asks the accuracy set's questions in a performance run, and this "
            "suite opens the performance set for one; run it with the reference's "
            "script, on the questions that compliance/TEST07 names"
        )

    def scores(
        self, folder: Path, references: References, workload: AnswerScorer
    ) -> Mapping[str, str]:
        del references
        _, answers = read_common_answers(folder, folder)
        return {report.COMPLIANCE: format_scores(workload, answers)}

    def verify(self, run: AuditedRun) -> tuple[AuditFinding, ...]:
        check, file = "compliance_accuracy", report.VERIFY_ACCURACY
        return (report.attempt(self._verify_score, run, check, file),)

    def _verify_score(self, run: AuditedRun) -> AuditFinding:
        least = run.audit.limits[THRESHOLD]
        file = report.COMPLIANCE
        score = read_accuracy_txt(run.folder, file).metrics.get("exact_match")
        printed = read_text(run.folder / file).rstrip()
        made = make_check(
            "compliance_accuracy",
            score is not None and score >= least,
            f"exact_match {score if score is not None else 'not there'}",
            f"at least {least:g}",
            file,
            "the performance run must answer as the accuracy run does",
        )
        text = format_threshold(printed, score, least)
        return AuditFinding((made,), report.VERIFY_ACCURACY, text)


def format_threshold(printed: str, score: float | None, least: float) -> str:
    """Return verify_accuracy.txt, after what the scorer printed."""
    ruler = report.RULER
    lines = [printed, "", ruler, "TEST07 Verification Summary", ruler]
    if score is None:
        lines.append("Error: Could not parse accuracy score")
    else:
        lines += [f"Accuracy score: {score}", f"Accuracy threshold: {least}"]
        lines.append(f"Accuracy check pass: {score >= least}")
    passed = score is not None and score >= least
    return "\n".join([*lines, report.format_verdict(passed), ""])


TEST07 = AccuracyInPerformance()
