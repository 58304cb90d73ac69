"""What the answers that LoadGen logged score, written beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pytest_mlperf.core.compliance import answers
from pytest_mlperf.core.compliance.report import BASELINE
from pytest_mlperf.core.compliance.report import COMPLIANCE
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import read_accuracy


class Scored(Protocol):
    """What scores answers: a workload of either kind."""

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]: ...

    def accuracy_text(self, metrics: Mapping[str, float]) -> str: ...


def write_accuracy(folder: Path, workload: Scored) -> dict[str, float]:
    """Score LoadGen's accuracy log and write accuracy.txt beside it."""
    log = folder / "mlperf_log_accuracy.json"
    metrics = workload.score(read_accuracy(folder))
    with log.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    text = f"{workload.accuracy_text(metrics)}\nhash={digest}\n"
    (folder / "accuracy.txt").write_text(text, encoding="utf-8")
    return metrics


def write_compliance(
    test: str, folder: Path, references: Mapping[str, str], workload: Scored
) -> None:
    """Score a compliance run where its verification asks for a score.

    TEST07 always does. TEST01 does where answers differ: then both runs' answers of
    the samples that it logged are scored. What cannot be read is left to the judge.
    """
    try:
        if test == "TEST07":
            _write(folder / COMPLIANCE, workload, answers.subsets(folder, folder)[1])
        if test == "TEST01":
            accuracy = Path(references["accuracy"])
            if answers.compare(accuracy, folder).passed:
                return
            baseline, compliance = answers.subsets(accuracy, folder)
            _write(folder / BASELINE, workload, baseline)
            _write(folder / COMPLIANCE, workload, compliance)
    except LogError:
        return


def _write(path: Path, workload: Scored, given: Mapping[int, bytes]) -> None:
    text = workload.accuracy_text(workload.score(given)) if given else "no answer"
    path.write_text(f"{text}\n", encoding="utf-8")
