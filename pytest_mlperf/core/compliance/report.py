"""The official files of compliance tests: their names, and what all of them say."""

from __future__ import annotations

from collections.abc import Callable

from pytest_mlperf.core.checks.outcome import check_unreadable
from pytest_mlperf.core.compliance.audit import AuditedRun
from pytest_mlperf.core.compliance.audit import AuditFinding
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY

VERIFY_ACCURACY = "verify_accuracy.txt"
VERIFY_PERFORMANCE = "verify_performance.txt"
BASELINE = "baseline_accuracy.txt"
"""The accuracy run's score over the samples that the audited run logged."""
COMPLIANCE = "compliance_accuracy.txt"
"""The audited run's score over the same samples."""
RULER = "=" * 80
LOGS = (f"performance/run_1/{SUMMARY}", f"performance/run_1/{DETAIL}")
ANSWERS = (f"accuracy/{ACCURACY}", f"accuracy/{ACCURACY_TXT}")


def has_passed(text: str) -> bool:
    """Return whether an official file says that its test passed."""
    return "TEST PASS" in (line.strip() for line in text.splitlines())


def format_verdict(passed: bool) -> str:
    """Return the line that the checkers look for."""
    return "TEST PASS" if passed else "TEST FAIL"


def attempt(
    verify_part: Callable[[AuditedRun], AuditFinding],
    run: AuditedRun,
    check: str,
    file: str,
) -> AuditFinding:
    """Return a finding; one that the logs cannot answer is ``check`` in error."""
    try:
        return verify_part(run)
    except LogError as error:
        text = f"TEST FAIL: {error.found}\n"
        return AuditFinding((check_unreadable(check, error),), file, text)
