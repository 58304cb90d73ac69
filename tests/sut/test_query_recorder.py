"""The record a query: what is noted on the hot path, and the columns made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.reporting.query_record import COUNTS
from pytest_mlperf.reporting.query_record import FILE
from pytest_mlperf.reporting.query_record import TIMES
from pytest_mlperf.reporting.query_record import QueryRecord
from pytest_mlperf.sut import query_recorder
from pytest_mlperf.sut.completion import CompleteBatch
from pytest_mlperf.sut.query_recorder import QueryRecorder
from pytest_mlperf.sut.query_recorder import StreamNotes
from tests.support.server_settings import SERVER

SETTINGS = replace(SERVER, min_query_count=1, performance_sample_count=8)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that the recorder reads, in its only element."""
    at = [1_000_000]
    monkeypatch.setattr(query_recorder, "now", lambda: at[0])
    return at


def advancing(clock: list[int], ns: int) -> Callable[[list[int], list[int]], None]:
    """Return work that takes so long."""

    def work(ids: list[int], indices: list[int]) -> None:
        del ids, indices
        clock[0] += ns

    return work


def completing(clock: list[int], ns: int, notes: StreamNotes) -> CompleteBatch:
    """Return work that takes so long until it completes its samples."""
    complete = notes.time_completion(lambda *_: None)

    def work(ids: list[int], indices: list[int]) -> None:
        del indices
        clock[0] += ns
        complete(ids)

    return work


def record_of(recorder: QueryRecorder, settings: Settings = SETTINGS) -> QueryRecord:
    """Return what was noted."""
    found = recorder.make_record(settings)
    assert found is not None
    return found


def test_queued_queries_keep_their_own_times_and_their_batch(clock: list[int]) -> None:
    """Two streams take queries out of order; each row is a query's."""
    recorder = QueryRecorder(3)
    notes = [recorder.open_stream(), recorder.open_stream()]
    works = [recorder.note_queries(completing(clock, 50, one), one) for one in notes]
    recorder.issue([70])
    clock[0] += 10
    recorder.issue([80, 90])
    works[1]([90], [0])
    works[0]([70, 80], [0, 1])
    columns = record_of(recorder, replace(SETTINGS, target_qps=None)).columns

    assert columns["query"].tolist() == [0, 1, 2]
    assert columns["issued_ns"].tolist() == [0, 10, 10]
    assert columns["started_ns"].tolist() == [60, 60, 10]
    assert columns["completed_ns"].tolist() == [110, 110, 60]
    assert columns["batch"].tolist() == [2, 2, 1]
    assert columns["stream"].tolist() == [0, 0, 1]
    assert columns["tokens"].tolist() == [-1, -1, -1]


def test_a_row_is_a_batch_where_all_was_issued_at_once(clock: list[int]) -> None:
    """Offline: one query, its batches, and the tokens of each."""
    recorder = QueryRecorder(None, devices=2)
    recorder.issue_whole()
    for size in (4, 3):
        notes = recorder.open_stream()
        notes.see_tokens([2] * size)
        recorder.note_batches(advancing(clock, 5), notes)([0] * size, [0] * size)
    offline = replace(SETTINGS, scenario=Scenario.OFFLINE)
    columns = record_of(recorder, offline).columns

    assert columns["query"].tolist() == [0, 0]
    assert columns["samples"].tolist() == [4, 3]
    assert columns["tokens"].tolist() == [8, 6]
    assert columns["completed_ns"].tolist() == [5, 10]
    assert columns["device"].tolist() == [0, 1]


def test_more_queries_than_are_kept_are_sampled_evenly(
    clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept does not grow with the run: planned or not."""
    monkeypatch.setattr(query_recorder, "MOST", 100)
    planned = QueryRecorder(1000)
    notes = planned.open_stream()
    work = planned.note_queries(completing(clock, 1, notes), notes)
    unplanned = QueryRecorder(None)
    inline = unplanned.note_batches(advancing(clock, 1), unplanned.open_stream())
    for number in range(1000):
        planned.issue([number])
        work([number], [0])
        inline([number], [0])
    first, second = record_of(planned), record_of(unplanned)

    assert first.every == 10
    assert first.columns["query"].tolist() == list(range(0, 1000, 10))
    assert len(second) <= 200
    assert second.every >= 5
    assert set(np.diff(second.columns["query"])) == {second.every}


def test_services_tell_first_tokens_and_no_batches(clock: list[int]) -> None:
    """What a service began with is unknown, its first tokens are not."""
    recorder = QueryRecorder(2)
    notes = recorder.open_stream()
    recorder.issue([5, 6])
    clock[0] += 30
    recorder.see_firsts([6])
    clock[0] += 70
    recorder.complete(notes, [6, 5], [12, 3], clock[0])
    columns = record_of(recorder, replace(SETTINGS, target_qps=None)).columns

    assert columns["first_token_ns"].tolist() == [-1, 30]
    assert columns["completed_ns"].tolist() == [100, 100]
    assert columns["started_ns"].tolist() == [-1, -1]
    assert columns["tokens"].tolist() == [3, 12]


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Every column, and of how many one was kept; numpy alone reads it too."""
    columns = {
        name: np.arange(3, dtype=np.int64) + place
        for place, name in enumerate(TIMES + COUNTS)
    }
    QueryRecord(columns, every=7).write(tmp_path)
    again = QueryRecord.read(tmp_path)

    assert again is not None
    assert again.every == 7
    for name, values in columns.items():
        assert again.columns[name].tolist() == values.tolist()
    with np.load(tmp_path / FILE) as file:
        assert {*file.files} == {*columns, "every"}


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    """A run that was killed while it wrote leaves a report without these plots."""
    assert QueryRecord.read(tmp_path) is None
    tmp_path.joinpath(FILE).write_bytes(b"PK\x03\x04 torn")
    assert QueryRecord.read(tmp_path) is None


@pytest.mark.parametrize(
    ("every", "change"),
    [
        (0, {}),
        (1, {"batch": np.zeros(2, np.int64)}),
        (1, {name: np.zeros((3, 1), np.int64) for name in TIMES + COUNTS}),
    ],
    ids=["one row of none", "a column of other rows", "columns of two axes"],
)
def test_a_record_that_is_no_table_is_none(
    tmp_path: Path, every: int, change: dict[str, Any]
) -> None:
    """The plots take for granted that columns have a value for each row."""
    columns = {name: np.zeros(3, np.int64) for name in TIMES + COUNTS}
    QueryRecord({**columns, **change}, every).write(tmp_path)

    assert QueryRecord.read(tmp_path) is None
