"""A measured run's record a query, written beside its logs once LoadGen is done."""

from __future__ import annotations

from contextlib import suppress

from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.run.preflight import planned_samples
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.sut.latency_watch import LatencyWatch
from pytest_mlperf.sut.protocol import SUT
from pytest_mlperf.sut.protocol import ReadLatencies
from pytest_mlperf.sut.query_recorder import QueryRecorder
from pytest_mlperf.sut.query_recorder import RecordsQueries


def start_recording(task: Task, settings: Settings, sut: SUT) -> QueryRecorder | None:
    """Have the queries of a performance run noted; None where they are not."""
    wanted = task.record and task.mode is Mode.PERFORMANCE
    if not (wanted and isinstance(sut, RecordsQueries)):
        return None
    planned = planned_samples(settings, 0)
    if settings.scenario is Scenario.OFFLINE and task.service is None:
        planned = None  # a row is a batch
    recorder = QueryRecorder(planned, task.devices)
    sut.record(recorder)
    return recorder


def latency_reader(
    task: Task, settings: Settings, recorder: QueryRecorder | None
) -> ReadLatencies:
    """Return what tells the percentiles of a run so far; nothing without a record."""
    if recorder is None:
        return tuple
    return LatencyWatch(recorder, settings, must_prove=task.rule.early_stopping).look


def write_record(task: Task, settings: Settings, recorder: QueryRecorder) -> None:
    """Write what was noted into the run's folder.

    No rule reads the record: a disk that cannot take it fails no run.
    """
    record = recorder.make_record(settings)
    with suppress(OSError):
        if record is not None:
            record.write(task.folder)
