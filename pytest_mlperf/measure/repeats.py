"""The further runs of an item with --mlperf-repeat, tuned as its first one was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.repeats import combine_runs
from pytest_mlperf.core.repeats import describe_run
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.folders import make_task_folder
from pytest_mlperf.measure.judged_run import write_verdict
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.tuning import saved


def is_repeated(options: Options, task: Task) -> bool:
    """Return whether a task is to run several times: a performance run is."""
    return options.repeat > 1 and task.mode is Mode.PERFORMANCE


def repeat_run(
    options: Options, task: Task, first: Verdict, run: Callable[[Task], Verdict]
) -> Verdict:
    """Run a task again until it ran as often as it should; return the item's verdict.

    Each run has a folder and a verdict of its own; a probe of its own might choose
    another batch, which is no noise. Raises what ``run`` does; a ``RunFailed`` then
    tells of the runs before it, whose figures the item's record does not have.
    """
    tuned = task.tuned
    with suppress(OSError, ValueError):
        tuned = saved.read(Path(first.folder))
    runs = [first]
    while len(runs) < options.repeat:
        try:
            runs.append(run(replace(make_task_folder(task), tuned=tuned)))
        except RunFailed as failed:
            failed.remarks.append(
                f"this was run {len(runs) + 1} of {options.repeat}, and an item of "
                "which a run did not end has no verdict, by whatever rule; before it: "
                + "; ".join(map(describe_run, runs))
            )
            raise
    verdict = combine_runs(runs, options.repeat_rule)
    write_verdict(verdict)
    return verdict
