"""The further runs of a repeated item, where one of them does not end."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Metric
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.repeats import repeat_run
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from tests.support.doubles import make_task

PASS = Check("seeds", Status.PASS, "v6.1's", "v6.1's", "log")


def make_verdict(folder: Path, rate: float) -> Verdict:
    return Verdict(
        "numbers", "Offline", "echo", "performance", "v6.1",
        Metric("rate", rate, "samples/s"), (PASS,), folder=str(folder),
    )  # fmt: skip


def test_a_run_that_does_not_end_tells_of_those_before_it(tmp_path: Path) -> None:
    """Their figures were in no report, and nothing said that they were VALID."""
    first = make_verdict(tmp_path / "logs", 100.0)

    def run(task: Task) -> Verdict:
        if task.folder.name == "logs":
            return make_verdict(task.folder, 90.0)
        raise RunFailed("HTTP 500: no memory", folder=task.folder)

    with pytest.raises(RunFailed) as failed:
        repeat_run(
            Options(repeat=3, repeat_rule="any"), make_task(tmp_path), first, run
        )

    cause, *others = str(failed.value).splitlines()
    assert cause == "HTTP 500: no memory"
    assert (
        "this was run 3 of 3, and an item of which a run did not end has no verdict, "
        "by whatever rule; before it: logs VALID 100 samples/s; logs VALID 90 samples/s"
    ) in others
