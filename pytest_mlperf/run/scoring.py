"""What the answers that LoadGen logged score, written beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mlperf.api.workload import ShowsAnswers
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.core import catalog
from pytest_mlperf.core.logs.lines import LogError
from pytest_mlperf.core.logs.log import read_accuracy
from pytest_mlperf.core.rounds.rule import Rule

if TYPE_CHECKING:
    from pytest_mlperf.core.compliance import AuditTest


def write_accuracy(folder: Path, workload: Workload, rule: Rule) -> dict[str, float]:
    """Score LoadGen's accuracy log and write accuracy.txt beside it.

    And the answers that a submission of the rule's round shows.
    """
    log = folder / "mlperf_log_accuracy.json"
    answers = read_accuracy(folder)
    metrics = workload.score(answers)
    examples = catalog.get(rule.benchmark).examples
    if isinstance(workload, ShowsAnswers) and examples:
        samples = map(int, examples.samples.get(rule.round, "").split())
        for name, content in workload.show(answers, list(samples)).items():
            (folder / examples.folder).mkdir(exist_ok=True)
            (folder / examples.folder / name).write_bytes(content)
    with log.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    text = f"{workload.accuracy_text(metrics)}\nhash={digest}\n"
    (folder / "accuracy.txt").write_text(text, encoding="utf-8")
    return metrics


def format_scores(metrics: Mapping[str, float]) -> str:
    """Return every score of a run, those that no rule is about too."""
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())


def write_compliance(
    test: AuditTest, folder: Path, references: Mapping[str, Path], workload: Workload
) -> None:
    """Score a compliance run where its verification asks for a score.

    What cannot be read is left to the judge.
    """
    with suppress(LogError):
        for name, text in test.scores(folder, references, workload).items():
            (folder / name).write_text(text, encoding="utf-8")
