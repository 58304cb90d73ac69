"""The percentile of a run that goes on, from what the recorder has noted until then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut import query_recorder
from pytest_mlperf.sut.latency_watch import LatencyWatch
from pytest_mlperf.sut.query_recorder import QueryRecorder
from tests.support.server_settings import SERVER

MS = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that the recorder reads, in its only element."""
    at = [5_000_000_000]
    monkeypatch.setattr(query_recorder, "now", lambda: at[0])
    return at


def test_the_percentile_is_that_of_the_answered_queries(clock: list[int]) -> None:
    """Within 1 %, look by look; late ones are counted exactly."""
    recorder = QueryRecorder(1000)
    notes = recorder.open_stream()
    watch = LatencyWatch(recorder, SERVER, must_prove=True)
    latencies = np.random.default_rng(1).exponential(4.0, 1000) * MS
    empty = watch.look()
    for number, latency in enumerate(latencies.astype(int).tolist()):
        recorder.issue([number])
        clock[0] += latency
        recorder.complete(notes, [number], [1], clock[0])
        if number % 300 == 0:
            watch.look()
    (found,) = watch.look()

    assert empty == ()
    assert found.value_ns == pytest.approx(np.sort(latencies)[990], rel=0.011)
    assert found.late == (latencies > 15 * MS).sum() > 10
    assert found.bound_ns == 15 * MS
    assert not found.is_lost  # of 10,000 queries more than that may be late


def test_a_query_without_an_answer_is_late_once_it_was_overdue_twice(
    clock: list[int],
) -> None:
    """A look between LoadGen's call and the note of it does not count against it."""
    recorder = QueryRecorder(100)
    notes = recorder.open_stream()
    watch = LatencyWatch(recorder, SERVER, must_prove=True)
    recorder.issue([*range(100)])
    recorder.complete(notes, [0], [1], clock[0])
    late = []
    for step_ms in (10, 10, 10):
        clock[0] += step_ms * MS
        late += [watch.look()[0].late]

    assert late == [0, 0, 99]


def test_tokens_have_two_percentiles(clock: list[int]) -> None:
    """The first token by its own time, the others by what follows it."""
    tokens = replace(
        SERVER, token_latencies=True, ttft_ns=20 * MS, tpot_ns=5 * MS,
        target_latency_ns=None,
    )  # fmt: skip
    recorder = QueryRecorder(2)
    notes = recorder.open_stream()
    watch = LatencyWatch(recorder, tokens, must_prove=True)
    recorder.issue([7, 8])
    clock[0] += 30 * MS
    recorder.see_firsts([7, 8])
    clock[0] += 40 * MS
    recorder.complete(notes, [7, 8], [11, 1], clock[0])
    first, later = watch.look()

    assert (first.name, first.late) == ("TTFT", 2)
    assert first.value_ns == pytest.approx(30 * MS, rel=0.011)
    assert (later.name, later.late) == ("TPOT", 0)
    assert later.value_ns == pytest.approx(4 * MS, rel=0.011)


def test_a_stream_has_a_percentile_and_no_bound(
    clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are its queries, also where the record keeps every other one."""
    monkeypatch.setattr(query_recorder, "MOST", 20)

    def work(ids: list[int], indices: list[int]) -> None:
        del ids, indices
        clock[0] += 2 * MS

    recorder = QueryRecorder(None)
    noted = recorder.note_batches(work, recorder.open_stream())
    stream = replace(SERVER, scenario=Scenario.SINGLE_STREAM, target_qps=None)
    watch = LatencyWatch(recorder, stream, must_prove=True)
    for _ in range(200):
        noted([0], [0])
        watch.look()
    (found,) = watch.look()

    assert found.value_ns == pytest.approx(2 * MS, rel=0.011)
    assert (found.bound_ns, found.most_late, found.is_lost) == (None, None, False)
    offline = replace(stream, scenario=Scenario.OFFLINE, percentile=None)
    assert LatencyWatch(recorder, offline, must_prove=False).look() == ()
