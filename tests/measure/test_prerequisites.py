"""The ledger of a session's runs, which its workers share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.prerequisites import DONE
from pytest_mlperf.measure.prerequisites import RunLedger
from tests.support import doubles


def test_a_run_has_a_file_in_the_folder_whatever_its_engine_is_called(
    tmp_path: Path,
) -> None:
    """A third party names its entry point: ``../acme/fast`` was no file at all."""
    task = doubles.make_task(tmp_path)
    task = replace(task, cell=Cell(task.rule, "../acme/fast"))
    ledger = RunLedger(tmp_path / "runs")

    with ledger.lock(task, "performance") as entry:
        entry.write(DONE, "logs")
    with ledger.lock(task, "performance") as entry:
        assert (entry.state, entry.folder) == (DONE, "logs")

    (file,) = ledger.folder.iterdir()
    assert file.is_file()
