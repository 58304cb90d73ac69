"""Where a run's logs go: a folder of its own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed


def logs_folder(reports: Path, cell: Cell, kind: str) -> Path:
    """Return where LoadGen writes: a folder per cell, and mode or compliance test."""
    return reports / "logs" / cell.file_name / kind


def make_folder(wanted: Path) -> Path:
    """Make and return a folder of this run's own: ``performance``, then ``-2`` …

    A repeated item must not write over the logs of the first, nor leave its own
    among them when it fails. Raises ``RunFailed`` where none can be made.
    """
    for number in itertools.count(1):
        folder = wanted.with_name(f"{wanted.name}-{number}") if number > 1 else wanted
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.is_dir():
                continue
            raise RunFailed(
                f"the logs folder {folder} is a file; it should be a folder of the "
                "run's own: remove it, or choose another --mlperf-reports DIR",
                folder=folder,
            ) from None
        except OSError as error:
            raise RunFailed(
                f"the logs folder {folder} cannot be made: {error.strerror}; give one "
                "that can be written with --mlperf-reports DIR",
                folder=folder,
            ) from error
        return folder
    raise AssertionError("counting does not end")


def make_task_folder(task: Task) -> Task:
    """Return a planned task with a folder of its own, as ``make_folder`` makes it."""
    return replace(task, folder=make_folder(task.folder))
