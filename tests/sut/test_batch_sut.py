"""The hot path without LoadGen: policies, batching, completion and failure."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.samples import check_responses
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.engines.null import NullEngine
from pytest_mlperf.sut import loadgen
from pytest_mlperf.sut.batch_sut import SWITCH_INTERVAL_S
from pytest_mlperf.sut.batch_sut import BatchSUT
from pytest_mlperf.sut.batch_sut import Each
from pytest_mlperf.sut.batch_sut import Fixed
from pytest_mlperf.sut.batch_sut import PerQuery
from pytest_mlperf.sut.batch_sut import Policy
from pytest_mlperf.sut.batch_sut import Window
from pytest_mlperf.sut.batch_sut import policy_for
from pytest_mlperf.sut.batch_sut import quiet_interpreter
from pytest_mlperf.sut.completion import check_rows
from tests.support import calls
from tests.support import doubles

SIZES = st.integers(1, 40)
QUERIES = st.lists(st.integers(1, 20), min_size=1, max_size=12)
"""Samples of each query."""


@dataclass
class Recorder:
    """Stands where ``QuerySamplesComplete`` stands and reads what LoadGen would."""

    calls: list[list[tuple[int, bytes]]] = field(default_factory=list)

    def complete(self, responses: Sequence[Any]) -> None:
        self.calls.append([(r.id, ctypes.string_at(r.data, r.size)) for r in responses])

    @property
    def answers(self) -> list[tuple[int, int]]:
        """(id, number answered), sorted."""
        return sorted(
            (one, int.from_bytes(data, "little"))
            for call in self.calls
            for one, data in call
        )


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(loadgen, "complete", recorder.complete)
    return recorder


def drive(
    policy: Policy,
    sizes: Sequence[int],
    *,
    streams: int = 1,
    call: calls.Infer = calls.echo,
) -> tuple[list[tuple[int, int]], list[BaseException]]:
    """Issue queries of these sizes; return what was asked and what went wrong.

    An id is 1000 more than the place of its sample, an index counts round the data.
    """
    failures: list[BaseException] = []
    engines = [doubles.Stream(call) for _ in range(streams)]
    workload = doubles.Echo(doubles.numbers())
    sut = BatchSUT(policy, engines, workload, failures.append)
    sut.start()
    asked: list[tuple[int, int]] = []
    for size in sizes:
        start = len(asked)
        query = [(1000 + n, n % doubles.SAMPLES) for n in range(start, start + size)]
        asked += query
        sut.issue([one for one, _ in query], [index for _, index in query])
    sut.flush()
    sut.stop()
    if not failures:
        assert sut.issued == sut.completed == len(asked)
    return asked, failures


def streams_alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("stream-")]


@given(size=SIZES, count=st.integers(0, 200), data=st.data())
def test_fixed_yields_every_sample_once_longest_first(
    size: int, count: int, data: st.DataObject
) -> None:
    """Batches hold every (id, index) pair once, none too many, in order of length."""
    indices = data.draw(st.lists(st.integers(0, 63), min_size=count, max_size=count))
    lengths = np.array(data.draw(st.lists(SIZES, min_size=64, max_size=64)), np.int32)
    ids = [7 * n for n in range(count)]
    batches = list(Fixed(size).batches(ids, indices, lengths))
    pairs = [pair for some, which in batches for pair in zip(some, which, strict=True)]
    found = [int(lengths[index]) for _, index in pairs]

    assert sorted(zip(ids, indices, strict=True)) == sorted(pairs)
    assert all(0 < len(some) <= size for some, _ in batches)
    assert all(len(some) == size for some, _ in batches[:-1])
    if count > size:
        assert sorted(found, reverse=True) == found
    else:
        assert list(zip(ids, indices, strict=True)) == pairs


def test_fixed_keeps_the_issue_order_without_lengths() -> None:
    """Pictures all cost the same: nothing is sorted, the last batch may be smaller."""
    batches = list(Fixed(2).batches([9, 8, 7], [1, 2, 3], None))

    assert batches == [([9, 8], [1, 2]), ([7], [3])]


@given(
    size=SIZES,
    waiting=st.integers(1, 100),
    preferred=st.lists(st.integers(1, 60), unique=True).map(sorted).map(tuple),
)
def test_a_window_takes_a_preferred_size_when_one_fits(
    size: int, waiting: int, preferred: tuple[int, ...]
) -> None:
    """Never more than the limit or than waits, never nothing, the best size if any."""
    taken = Window(size, 0.0, preferred).cut(waiting)
    fitting = [n for n in preferred if n <= min(size, waiting)]

    assert 1 <= taken <= min(size, waiting)
    assert (fitting[-1] if fitting else min(size, waiting)) == taken


@pytest.mark.parametrize(
    ("scenario", "policy"),
    [
        (Scenario.SINGLE_STREAM, Each()),
        (Scenario.MULTI_STREAM, PerQuery()),
        (Scenario.OFFLINE, Fixed(8)),
        (Scenario.SERVER, Window(8, 0.002, (4,))),
        (Scenario.INTERACTIVE, Window(8, 0.002, (4,))),
    ],
)
def test_every_scenario_has_its_policy(scenario: Scenario, policy: Policy) -> None:
    """Streams answer at once, Offline cuts the one query, Server gathers what waits."""
    assert policy == policy_for(scenario, 8, 0.002, (4,))


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize(
    "policy",
    [
        Each(),
        PerQuery(),
        Fixed(8),
        Window(8),
        Window(8, 0.002),
        Window(16, 0.0, (2, 4)),
        Window(16, 0.002, (2, 4)),
    ],
    ids=str,
)
@given(sizes=QUERIES)
@settings(max_examples=15)
def test_every_sample_is_completed_once_with_its_own_answer(
    policy: Policy, streams: int, sizes: list[int]
) -> None:
    """Whatever the policy, streams and queries, each id gets its sample's number."""
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loadgen, "complete", recorder.complete)
        asked, failures = drive(policy, sizes, streams=streams)

    assert failures == []
    assert sorted(asked) == recorder.answers


@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        (Each(), [1] * 20),
        (PerQuery(), [20]),
        (Fixed(8), [8, 8, 4]),
        (Window(8), [8, 8, 4]),
        (Window(9, 0.0, (2, 4)), [4, 4, 4, 4, 4]),
    ],
    ids=str,
)
def test_a_batch_is_completed_in_one_call(
    recorder: Recorder, policy: Policy, calls: list[int]
) -> None:
    """One query of 20 samples costs as many LoadGen calls as the policy's batches."""
    drive(policy, [20])

    assert calls == [len(call) for call in recorder.calls]


def test_queries_that_came_together_are_all_streams_to_answer(
    recorder: Recorder,
) -> None:
    """While one stream is at its batch, the others do not wait for it to take more."""
    later = threading.Event()

    def slow_first(batch: Any, size: int, ids: list[int]) -> Any:
        if 0 in calls.first(batch)[:, 0]:
            later.wait(60)
        return calls.echo(batch, size, ids)

    engines = [doubles.Stream(slow_first) for _ in range(2)]
    sut = BatchSUT(Window(4), engines, doubles.Echo(doubles.numbers()), fail)
    sut.start()
    sut.issue(list(range(20)), list(range(20)))
    doubles.await_true(lambda: sut.completed == 16, "the other stream")
    later.set()
    sut.stop()

    assert list(range(20)) == [one for one, _ in recorder.answers]


def test_a_window_waits_for_a_batch_to_fill(recorder: Recorder) -> None:
    """With time to wait, queries that come one by one still make full batches."""
    drive(Window(4, delay_s=5.0), [1] * 8)

    assert [len(call) for call in recorder.calls] == [4, 4]


def test_only_the_bytes_that_count_are_handed_over(recorder: Recorder) -> None:
    """Answers of unlike length share an array; each id gets its own bytes."""

    class Trimmed(doubles.Echo):
        def respond(
            self, outputs: Sequence[Array], indices: Sequence[int]
        ) -> Responses:
            rows = super().respond(outputs, indices).rows
            return Responses(rows, [1 + index % 2 for index in indices])

    workload = Trimmed(doubles.numbers())
    sut = BatchSUT(PerQuery(), [doubles.Stream(calls.echo)], workload, fail)
    sut.issue([10, 11, 12], [1, 2, 3])

    assert recorder.calls == [[(10, b"\1\0"), (11, b"\2"), (12, b"\3\0")]]


def fail(error: BaseException) -> None:
    raise AssertionError(f"nothing should go wrong here: {error!r}")


@pytest.mark.parametrize("policy", [Each(), PerQuery(), Fixed(4), Window(4)], ids=str)
def test_a_broken_engine_completes_nothing_and_is_reported_once(
    recorder: Recorder, policy: Policy
) -> None:
    """The batch of sample 6 raises; its error arrives as it was, its ids never."""
    broken = RuntimeError("sample 6 breaks it")

    def breaks(batch: Any, size: int, ids: list[int]) -> Any:
        if 6 in calls.first(batch)[:, 0]:
            raise broken
        return calls.echo(batch, size, ids)

    _, failures = drive(policy, [4, 4], call=breaks)
    completed = [one for one, _ in recorder.answers]

    assert failures == [broken]
    assert broken is failures[0]
    assert 1006 not in completed
    if isinstance(policy, Each):
        assert completed == [1000, 1001, 1002, 1003, 1004, 1005]
    else:
        assert completed == [1000, 1001, 1002, 1003]
    assert streams_alive() == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (calls.fewer_rows, r"shape \[3, 1\], but should be \[4, 1\]"),
        (calls.not_a_number, "NaN"),
        (calls.wrong_shape, r"shape \[4, 1, 1\], but should be \[4, 1\]"),
    ],
)
@pytest.mark.parametrize("policy", [PerQuery(), Fixed(4), Window(4)], ids=str)
def test_answers_that_cannot_be_right_are_failures(
    recorder: Recorder, policy: Policy, call: calls.Infer, text: str
) -> None:
    """Too few rows, NaN and a wrong shape never reach LoadGen."""
    _, failures = drive(policy, [4], call=call)

    assert len(failures) == 1
    assert isinstance(failures[0], ValueError)
    assert recorder.calls == []
    with pytest.raises(ValueError, match=text):
        raise failures[0]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (np.zeros((3, 1)), r"answered with \(3, 1\), but should return 4 rows for 4"),
        (np.zeros(()), r"answered with \(\), but should return 4 rows"),
        ([1, 2, 3, 4], "answered with list, but should return 4 rows"),
        (np.zeros((4, 8))[:, ::2], "C-contiguous.*numpy.ascontiguousarray"),
    ],
)
def test_answers_are_checked_before_their_address_is_taken(
    rows: Any, text: str
) -> None:
    """A wrong count, a list and a strided view say what they are and should be."""
    with pytest.raises(ValueError, match=text):
        check_rows(rows, 4)


def test_an_array_is_no_responses(recorder: Recorder) -> None:
    """One of three rows came apart as rows, sizes and tokens."""

    class Bare(doubles.Echo):
        def respond(self, outputs: Any, indices: Any) -> Any:
            return super().respond(outputs, indices).rows

    failures: list[BaseException] = []
    workload = Bare(doubles.numbers())
    engine = doubles.Stream(calls.echo)
    sut = BatchSUT(PerQuery(), [engine], workload, failures.append)
    sut.start()
    sut.issue([1, 2, 3], [1, 2, 3])
    sut.stop()

    assert recorder.calls == []
    assert "respond() returned ndarray, but should return Responses(rows)" in str(
        failures[0]
    )
    assert check_responses((1, None)) == Responses(1)  # type: ignore[arg-type]


def test_an_engine_that_answers_is_called_without_input(recorder: Recorder) -> None:
    """The null engine's one answer reaches every id of batches of two sizes."""
    engine = NullEngine(np.array([7], np.int32))
    sut = BatchSUT(Fixed(8), [engine], doubles.Echo(doubles.numbers()), fail)
    sut.start()
    sut.issue(list(range(20)), list(range(20)))
    sut.stop()

    assert [(one, 7) for one in range(20)] == recorder.answers


def test_one_array_for_batches_of_two_sizes_is_refused(recorder: Recorder) -> None:
    """Reading 8 answers at the address of 2 would run off the end of the array."""
    rows = np.zeros((2, 1), np.int32)
    failures: list[BaseException] = []
    engine = doubles.Stream(lambda _batch, _size, _ids: rows, answers=True)
    workload = doubles.Echo(doubles.numbers())
    sut = BatchSUT(PerQuery(), [engine], workload, failures.append)
    sut.issue([1, 2], [1, 2])
    sut.issue(list(range(8)), list(range(8)))

    assert [len(call) for call in recorder.calls] == [2]
    with pytest.raises(ValueError, match=r"answered with \(2, 1\), but .* 8 rows"):
        raise failures[0]


@pytest.mark.parametrize("policy", [Fixed(4), Window(4), Window(4, 0.002)], ids=str)
def test_stop_ends_the_threads_and_start_works_again(
    recorder: Recorder, policy: Policy
) -> None:
    """A SUT that never got a query ends too, and can be driven a second time."""
    engines = [doubles.Stream(calls.echo) for _ in range(3)]
    sut = BatchSUT(policy, engines, doubles.Echo(doubles.numbers()), fail)
    for _ in range(2):
        sut.start()

        assert streams_alive() == ["stream-0", "stream-1", "stream-2"]

        sut.issue([1, 2], [1, 2])
        sut.stop()

        assert streams_alive() == []
    assert 4 == sut.completed == len(recorder.answers)


@pytest.fixture
def collector() -> Iterator[None]:
    """Puts the garbage collector back, whatever a test did to it."""
    was = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was else gc.disable)()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("breaks", [True, False])
def test_the_interpreter_is_as_before_after_a_run(enabled: bool, breaks: bool) -> None:
    """Collection and switch interval come back, after an exception as well."""
    (gc.enable if enabled else gc.disable)()
    interval = sys.getswitchinterval()
    inside: list[object] = []
    with suppress(RuntimeError), quiet_interpreter():
        inside += [gc.isenabled(), gc.get_freeze_count() > 0]
        inside.append(sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S))
        if breaks:
            raise RuntimeError("the run broke")

    assert inside == [False, True, True]
    assert enabled == gc.isenabled()
    assert interval == sys.getswitchinterval()
    assert gc.get_freeze_count() == 0
