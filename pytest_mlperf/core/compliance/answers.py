"""The answers that LoadGen logged in an audited run."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.core.compliance.audit import AnswerScorer
from pytest_mlperf.core.logs.accuracy import ACCURACY
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.lines import parse_json
from pytest_mlperf.core.logs.lines import read_lines


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a folder's accuracy log; ``LogError`` for a damaged one."""
    path = folder / ACCURACY
    closed = False
    number = 0
    for number, text in read_lines(path):
        line = text.strip()
        if number == 1 and line == "[":
            continue
        if number == 1 or closed:
            raise LogError(path, number, f"{line[:40]!r}", "a list of answers")
        if line == "]":
            closed = True
            continue
        yield _parse_record(path, number, line)
    if not closed:
        raise LogError(path, number, "the end of the log without ]", "a whole log")


def _parse_record(path: Path, number: int, line: str) -> dict[str, Any]:
    record = parse_json(path, number, line.removesuffix(","))
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


def read_common_answers(
    accuracy: Path, performance: Path
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Return the accuracy run's and the performance run's answers of the same samples.

    What create_accuracy_baseline.sh makes of the two logs: every sample that the
    performance run logged. Where a sample was logged twice its first answer counts.
    """
    compliance: dict[int, bytes] = {}
    for record in read_records(performance):
        compliance.setdefault(record["qsl_idx"], bytes.fromhex(record["data"]))
    baseline: dict[int, bytes] = {}
    for record in read_records(accuracy):
        if record["qsl_idx"] in compliance:
            baseline.setdefault(record["qsl_idx"], bytes.fromhex(record["data"]))
    return baseline, compliance


def format_scores(workload: AnswerScorer, answers: Mapping[int, bytes]) -> str:
    """Return what accuracy.txt would say of these answers."""
    text = workload.accuracy_text(workload.score(answers)) if answers else "no answer"
    return f"{text}\n"
