"""The official files of a compliance test, line for line, and where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_mlperf.core.compliance.answers import Comparison
from pytest_mlperf.core.compliance.entropy import TOLERANCE
from pytest_mlperf.core.compliance.entropy import Entropy
from pytest_mlperf.core.compliance.figures import Tolerance
from pytest_mlperf.core.compliance.tokens import Consistency
from pytest_mlperf.core.compliance.tokens import Lengths
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.accuracy import ACCURACY_TXT
from pytest_mlperf.core.logs.log import DETAIL
from pytest_mlperf.core.logs.log import SUMMARY

VERIFY_ACCURACY = "verify_accuracy.txt"
VERIFY_PERFORMANCE = "verify_performance.txt"
VERIFY_LENGTH = "verify_output_len.txt"
BASELINE = "baseline_accuracy.txt"
"""The accuracy run's score over the samples that the audited run logged."""
COMPLIANCE = "compliance_accuracy.txt"
"""The audited run's score over the same samples."""
CONFIG = "audit.config"
RULER = "=" * 80

_LOGS = (f"performance/run_1/{SUMMARY}", f"performance/run_1/{DETAIL}")
_ANSWERS = (f"accuracy/{ACCURACY}", f"accuracy/{ACCURACY_TXT}")
_FILES = {
    "TEST01": (VERIFY_ACCURACY, VERIFY_PERFORMANCE, *_LOGS, *_ANSWERS),
    "TEST04": (VERIFY_PERFORMANCE, *_LOGS),
    "TEST04-A": (VERIFY_PERFORMANCE, *_LOGS),
    "TEST04-B": _LOGS,
    "TEST05": (VERIFY_PERFORMANCE, *_LOGS),
    "TEST06": (VERIFY_ACCURACY, f"accuracy/{ACCURACY}"),
    "TEST07": (VERIFY_ACCURACY, *_LOGS, *_ANSWERS),
    "TEST08": (VERIFY_ACCURACY,),
    "TEST09": (VERIFY_LENGTH, *_LOGS, *_ANSWERS),
}


def official_files(test: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the path inside a submission's ``TESTnn/`` and the file of a run's folder.

    Where TEST01's answers differ, and only there, the two accuracy texts belong to it:
    the v5.1.1 checker takes no other file list.
    """
    for path in _FILES[test]:
        yield path, folder / path.rpartition("/")[2]
    text = folder / VERIFY_ACCURACY
    if test == "TEST01" and text.is_file() and not passes(text.read_text("utf-8")):
        for name in (BASELINE, COMPLIANCE):
            yield f"accuracy/{name}", folder / name


def passes(text: str) -> bool:
    """Return whether an official file says that its test passed."""
    return "TEST PASS" in (line.strip() for line in text.splitlines())


def answers(found: Comparison) -> str:
    """Return verify_accuracy.txt of TEST01."""
    counts = {
        "num_acc_log_entries": found.accuracy_entries,
        "num_acc_log_duplicate_keys": found.accuracy_duplicates,
        "num_acc_log_data_mismatch": found.accuracy_contradictions,
        "num_perf_log_entries": found.entries,
        "num_perf_log_qsl_idx_match": found.matched,
        "num_perf_log_data_mismatch": found.different,
        "num_missing_qsl_idxs": found.unknown,
    }
    lines = [f"{name} = {count}" for name, count in counts.items()]
    return "\n".join([*lines, verdict(found.passed), ""])


def performance(test: str, found: Tolerance) -> str:
    """Return verify_performance.txt."""
    names = {
        "TEST01": ("Reference score", "Test score"),
        "TEST04-B": ("TEST04-A score", "TEST04-B score"),
    }.get(test, ("reference score", "test score"))
    if found.invalid:
        return f"TEST FAIL: {found.invalid}\n"
    lines = [f"{n} = {f}" for n, f in zip(names, found.lines, strict=True)]
    lines.append("TEST PASS" if found.passed else "TEST FAIL: Test score invalid")
    lines += [f"Note: {found.note}"] * bool(found.note)
    return "\n".join([*lines, ""])


def consistency(found: Consistency) -> str:
    """Return verify_accuracy.txt of TEST06."""
    first = str(found.first_token is None) if found.streamed else "Skipped"
    passed = found.first_token is found.ending is found.length is None
    lines = [
        f"First token check pass: {first}",
        f"EOS check pass: {found.ending is None}",
        f"Sample length check pass: {found.length is None}",
        f"TEST06 verification {'complete' if passed else 'failed'}",
    ]
    return "\n".join([*lines, ""])


def threshold(printed: str, score: float | None, least: float) -> str:
    """Return verify_accuracy.txt of TEST07, after what the scorer printed."""
    lines = [printed, "", RULER, "TEST07 Verification Summary", RULER]
    if score is None:
        lines.append("Error: Could not parse accuracy score")
    else:
        lines += [f"Accuracy score: {score}", f"Accuracy threshold: {least}"]
        lines.append(f"Accuracy check pass: {score >= least}")
    passed = score is not None and score >= least
    return "\n".join([*lines, verdict(passed), ""])


def entropy(entries: int, found: Entropy) -> str:
    """Return verify_accuracy.txt of TEST08."""
    lines = [
        f"num_perf_log_entries = {entries}",
        f"num_matched = {found.matched}",
        f"num_unmatched = {found.unmatched}",
        f"num_ne_mismatch = {found.different}",
        f"tolerance = {TOLERANCE * 100:.2f}%",
        "",
        verdict(found.passed),
    ]
    return "\n".join([*lines, ""])


def output_length(found: Lengths, low: float, high: float) -> str:
    """Return verify_output_len.txt of TEST09."""
    enough, few = found.mean >= low, found.mean <= high
    lines = [
        RULER,
        "TEST09: Verify Output Token Length in Performance Mode",
        RULER,
        "",
        "Output Token Length Statistics",
        "-" * 40,
        f"Total samples: {found.entries}",
        f"Mean output tokens: {found.mean:.2f}",
        f"Min output tokens: {found.shortest}",
        f"Max output tokens: {found.longest}",
        f"Std deviation: {found.deviation:.2f}",
        "",
        RULER,
        "Verification Results",
        RULER,
        f"Mean output tokens: {found.mean:.2f}",
        f"Min threshold: {low}",
        f"Max threshold: {high}",
        f"Min check pass: {enough}",
        f"Max check pass: {few}",
        "",
        verdict(enough and few),
    ]
    return "\n".join([*lines, ""])


def verdict(passed: bool) -> str:
    """Return the line that the checkers look for."""
    return "TEST PASS" if passed else "TEST FAIL"
