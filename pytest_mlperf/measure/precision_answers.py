"""A cell's questions answered in one precision, and the score of each."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.workload import ScoresEach
from pytest_mlperf.api.workload import Workload
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.logs.log import read_accuracy
from pytest_mlperf.core.types import Mode
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.named import check_named
from pytest_mlperf.measure.rig import Rig
from pytest_mlperf.measure.run import run_task
from pytest_mlperf.runner.messages import Task


@dataclass(frozen=True, slots=True)
class PrecisionAnswers:
    """What an engine of one precision scored on every question."""

    title: str
    """Model and data, in words."""
    scores: NDArray[np.float64]
    """[question], percent."""


@dataclass(slots=True)
class PrecisionRuns:
    """Accuracy runs of one cell, whose workload is opened once."""

    rig: Rig
    cell: Cell
    _workload: Workload | None = None

    def check(self, options: Options) -> None:
        """Raise ``ValueError`` or ``RunRefused`` for a precision that cannot be chosen:
        the engine does not have it, or a server runs whose own nobody here changes.
        """
        session = self.rig.with_options(options).session
        check_named(session, [self.cell], names_engine=True)
        service = self._plan(options).service
        if service is not None and (service.urls or service.server):
            raise RunRefused(
                f"{self.cell.id} is answered by a server of yours, whose precision is "
                "its own: fp32 would be compared with itself; serve both models and "
                "compare their accuracy items"
            )

    def answer(self, options: Options) -> PrecisionAnswers:
        """Run the cell's accuracy mode with these options and score each question.

        Raises ``RunRefused`` where the benchmark's metric is no mean over its questions
        (mAP, FID …), and what ``run_task`` raises.
        """
        task = self._plan(options)
        workload = self._open(task)
        task = replace(make_task_folder(task), time_limit_s=None)
        run_task(self.rig.with_options(options), task)
        scores = workload.score_each(read_accuracy(task.folder))
        return PrecisionAnswers(workload.title, scores)

    def _plan(self, options: Options) -> Task:
        name = f"accuracy-{options.precision}"
        return self.rig.with_options(options).plan(self.cell, Mode.ACCURACY, name)

    def _open(self, task: Task) -> Any:
        if self._workload is None:
            benchmark = task.benchmark.load()
            self._workload = benchmark.open_workload(task.workload, task.scratch)
        if not isinstance(self._workload, ScoresEach):
            raise RunRefused(
                f"{task.cell.benchmark}'s accuracy is no mean over its questions, so "
                "that two precisions cannot be compared question by question; judge "
                "each by its accuracy item"
            )
        return self._workload
