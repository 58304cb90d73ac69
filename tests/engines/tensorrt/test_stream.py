"""The tensorrt engine's streams, on a device that does nothing until it has to.

No machine of this project can run a TensorRT plan. On ``lazy_cuda`` a wait that is
missing, a buffer that is used too early or an address that is off by one gives wrong
answers, and that is what is tested here.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.engine import TellsFacts
from pytest_mlperf.api.engine import TimesBatches
from pytest_mlperf.engines.tensorrt.build_search import Cause
from pytest_mlperf.engines.tensorrt.build_search import classify_failure
from pytest_mlperf.engines.tensorrt.cuda import PlanRunFailed
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.stream import open_stream
from tests.support.lazy_cuda import INPUT
from tests.support.lazy_cuda import Event
from tests.support.lazy_cuda import LazyCuda
from tests.support.lazy_cuda import fake_trt
from tests.support.plans import batch_of
from tests.support.plans import model
from tests.support.plans import plan_of
from tests.support.plans import stream_of


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    most=st.integers(1, 20),
    graphs=st.booleans(),
    early=st.booleans(),
)
def test_a_batch_of_any_size_comes_back_right(
    sizes: list[int], most: int, graphs: bool, early: bool
) -> None:
    """In chunks of the plan's batch, whatever ran before on the same buffers."""
    cuda = LazyCuda(early=early)
    stream = stream_of(cuda, (-1, 3), most, 0, graphs=graphs)
    for size in sizes:
        batch = batch_of(size, 3)
        (found,) = stream.infer(batch, size)

        assert found.shape == (size, 3)
        assert np.array_equal(2 * batch[INPUT] + 1, found)
    assert bool(cuda.replays) == graphs
    stream.close()


@given(
    batches=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 200)), min_size=1,
                     max_size=4),
    graphs=st.booleans(),
)  # fmt: skip
def test_a_batch_of_any_length_comes_back_as_long(
    batches: list[tuple[int, int]], graphs: bool
) -> None:
    """Recorded lengths are multiples; what they pad is cut off again."""
    cuda = LazyCuda()
    stream = stream_of(cuda, (-1, -1), 8, 200, graphs=graphs)
    for size, length in batches:
        batch = batch_of(size, length)
        (found,) = stream.infer(batch, size)

        assert found.shape == (size, length)
        assert np.array_equal(2 * batch[INPUT] + 1, found)
    stream.close()


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_a_plan_of_one_fixed_batch_runs_every_size(size: int) -> None:
    """The batch is filled up with zeros, and their answers are dropped."""
    cuda = LazyCuda()
    stream = stream_of(cuda, (4, 3), 4, 0, graphs=False)
    batch = batch_of(size, 3)
    (found,) = stream.infer(batch, size)

    assert np.array_equal(2 * batch[INPUT] + 1, found)


def test_chunks_overlap() -> None:
    """The second is copied in before anybody has waited for the first."""
    cuda = LazyCuda()
    stream = stream_of(cuda, (-1, 3), 4, 0, graphs=False)
    stream.infer(batch_of(8, 3), 8)  # both slots have their contexts now
    queued: list[int] = []
    finish = cuda.finish

    def noting(event: Event) -> None:
        queued.append(sum(len(s.work) - s.done for s in cuda.streams))
        finish(event)

    cuda.finish = noting  # type: ignore[method-assign]
    stream.infer(batch_of(8, 3), 8)

    # Each chunk: copy in, wait, compute, wait, copy out.
    assert queued[0] == 10
    assert len(queued) == 2


def test_without_graphs_the_answers_are_the_same() -> None:
    """A device that cannot record says why, and runs launch by launch."""
    cuda = LazyCuda(graphs=False)
    plan = plan_of(cuda, (-1, 3), 8, 0, graphs=True)
    stream = open_stream(plan, model(dynamic=False))
    batch = batch_of(5, 3)
    (found,) = stream.infer(batch, 5)

    assert plan.graph_report == "off: cuStreamBeginCapture_v2 failed: not here"
    assert np.array_equal(2 * batch[INPUT] + 1, found)
    assert not cuda.replays


def test_answers_hold_until_the_next_batch() -> None:
    """One chunk lies in pinned memory; a larger batch is copied out of it."""
    cuda = LazyCuda()
    stream = stream_of(cuda, (-1, 3), 4, 0, graphs=True)
    first = batch_of(4, 3)
    (one,) = stream.infer(first, 4)
    kept = one.copy()
    (several,) = stream.infer(batch_of(9, 3), 9)
    before = several.copy()
    stream.infer(batch_of(4, 3), 4)

    assert np.array_equal(2 * first[INPUT] + 1, kept)
    assert np.array_equal(before, several)


def test_each_chunk_has_its_times() -> None:
    """Copy in, compute and copy out by the device's clock, and its samples."""
    cuda = LazyCuda()
    stream = stream_of(cuda, (-1, 3), 4, 0, graphs=True)
    stream.infer(batch_of(9, 3), 9)
    rows = stream.timeline.rows

    assert [row[1:4] for row in rows] == [(1.0, 1.0, 1.0)] * 3
    assert [row[4] for row in rows] == [4, 4, 1]
    assert dict(stream.facts) == {"cuda graphs": "3 a slot"}
    assert isinstance(stream, TimesBatches)
    assert isinstance(stream, TellsFacts)


def test_the_last_stream_takes_the_context_along() -> None:
    """Not the first: the others still run on it."""
    cuda = LazyCuda()
    plan = plan_of(cuda, (-1, 3), 4, 0, graphs=True)
    streams = [open_stream(plan, model(dynamic=False)) for _ in range(2)]
    streams[0].close()

    still = [cuda.closed, plan.closed]
    answers = streams[1].infer(batch_of(2, 3), 2)
    streams[1].close()

    assert still == [False, False]
    assert answers[0].shape == (2, 3)
    assert [cuda.closed, plan.closed] == [True, True]
    assert cuda.entered == 0


def test_a_batch_beyond_the_plan_is_refused_with_a_remedy() -> None:
    """A longer sequence than the plan was built for: shapes, and what to do."""
    stream = stream_of(LazyCuda(), (-1, -1), 4, 64, graphs=True)
    with pytest.raises(PlanRunFailed) as caught:
        stream.infer(batch_of(2, 65), 2)

    assert "(2, 65)" in str(caught.value)
    assert "takes at most {'in': (4, 64)}; delete it" in str(caught.value)


def test_a_plan_of_another_device_is_refused() -> None:
    """TensorRT returns nothing; that is turned into words."""
    cuda = LazyCuda()
    with cuda.current(), pytest.raises(PlanRunFailed, match="built for another one"):
        Plan.deserialize(fake_trt(None), cuda, b"plan", cuda_graphs=False)


def test_memory_that_runs_out_while_opening_says_so() -> None:
    """In words that the build's search understands."""
    plan = plan_of(LazyCuda(room=10), (-1, 3), 4, 0, graphs=True)
    with pytest.raises(PlanRunFailed) as caught:
        open_stream(plan, model(dynamic=False))

    assert "opening a stream: CudaError: out of memory" in str(caught.value)
    assert classify_failure([str(caught.value)], 1).cause is Cause.MEMORY


def test_the_fake_device_shows_a_missing_wait() -> None:
    """What these tests rest on: without the wait, the answer is what lay there."""
    cuda = LazyCuda()
    cuda.wait = lambda stream, event: None  # type: ignore[method-assign]  # noqa: ARG005
    cuda.elapsed_ms = lambda begin, end: 0.0  # type: ignore[method-assign]  # noqa: ARG005
    stream = stream_of(cuda, (-1, 3), 4, 0, graphs=True)
    batch = batch_of(4, 3)
    (found,) = stream.infer(batch, 4)

    assert not np.array_equal(2 * batch[INPUT] + 1, found)
