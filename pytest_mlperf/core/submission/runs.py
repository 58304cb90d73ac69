"""The runs a submission is made of: verdicts, with the folders of their logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.core.regular_file import read_text
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Verdict

PERFORMANCE = "performance"
ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what the rules say of it and where its logs are."""

    folder: Path
    verdict: Verdict
    trouble: str = ""
    """Why its item did not pass, beside what the verdict says."""

    @property
    def mode(self) -> str:
        """``performance``, ``accuracy`` or an audit's name: ``TEST01``."""
        return self.verdict.mode

    @property
    def key(self) -> tuple[str, str]:
        """Benchmark with its target, and scenario: a row of a submission."""
        return self.verdict.benchmark, self.verdict.scenario

    @property
    def build(self) -> tuple[str, ...]:
        """What runs of one submission must share."""
        one = self.verdict
        return one.engine, one.build, str(one.run.devices), *one.run.on_device

    @property
    def name(self) -> str:
        """The run in a sentence: ``resnet50 Offline performance (performance-2)``."""
        return f"{self.verdict.benchmark} {self.verdict.scenario} {self.folder.name}"

    @property
    def score(self) -> str:
        """The run's figure in words."""
        metric = self.verdict.metric
        return f"{metric.value:,.6g} {metric.unit}" if metric else "no figure"

    @property
    def scenario(self) -> Scenario:
        return Scenario(self.verdict.scenario)

    def blemishes(self, allowed: Iterable[str] = ()) -> list[str]:
        """Return what keeps the run from a closed submission, VALID or not."""
        labels = set(self.verdict.labels) - set(allowed)
        found = [f"labelled {', '.join(sorted(labels))}"] if labels else []
        if waived := [check.name for check in self.verdict.waived]:
            found.append(f"rules waived: {', '.join(waived)}")
        return found


def read_run(folder: Path) -> Run:
    """Return the run of a folder; ``OSError`` or ``ValueError`` without one."""
    return Run(folder, Verdict.from_json(read_text(folder / VERDICT_FILE)))


def read_runs(reports: Path) -> Iterator[Run]:
    """Yield the judged runs of a session, in the order of their folders.

    A verdict that cannot be read is skipped: a run without one does not count.
    """
    for path in sorted(reports.glob(f"logs/*/*/{VERDICT_FILE}"), key=make_sort_key):
        try:
            yield read_run(path.parent)
        except (OSError, ValueError):
            continue


def make_sort_key(path: Path) -> tuple[str, str, int]:
    """Sort key of a run's verdict: ``performance`` before ``performance-2``."""
    found = re.fullmatch(r"(.*?)(?:-(\d+))?", path.parent.name)
    assert found is not None
    # TEST04-A is a name, and no fourth attempt.
    return str(path.parent.parent), found[1], int(found[2] or 1)
