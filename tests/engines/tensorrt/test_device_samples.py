"""Samples kept beside a plan, on a device that does nothing until it has to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.engines.tensorrt.device_samples import PlanSampleStore
from pytest_mlperf.engines.tensorrt.device_samples import find_runs
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.stream import open_stream
from tests.support.lazy_cuda import INPUT
from tests.support.lazy_cuda import LazyCuda
from tests.support.plans import model
from tests.support.plans import plan_of


def library(plan: Plan, dataset: ArrayDataset, longest: int = 0) -> DeviceDataset:
    return DeviceDataset(dataset, PlanSampleStore(lambda: plan, bool(longest), longest))


@given(
    chosen=st.lists(st.integers(0, 299), min_size=1, max_size=30),
    most=st.integers(1, 12),
    graphs=st.booleans(),
    early=st.booleans(),
)
def test_a_batch_is_copied_on_the_device(
    chosen: list[int], most: int, graphs: bool, early: bool
) -> None:
    """Runs of neighbours and repeats, in chunks; the host's arrays may change."""
    cuda = LazyCuda(early=early)
    plan = plan_of(cuda, (-1, 3), most, 0, graphs=graphs)
    values = np.random.default_rng(1).random((300, 3)).astype(np.float32)
    dataset = ArrayDataset({INPUT: values.copy()}, 300)
    samples = library(plan, dataset)
    samples.load(list(range(300)))
    dataset.arrays[INPUT][:] = -1
    stream = open_stream(plan, model(dynamic=False))
    (found,) = stream.infer(samples.gather(chosen), len(chosen))

    assert np.array_equal(2 * values[chosen] + 1, found)
    stream.close()
    assert not plan.closed
    samples.unload([])
    assert plan.closed


@given(
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=20),
    graphs=st.booleans(),
    data=st.data(),
)
def test_sequences_are_padded_with_zeros_to_the_batchs_longest(
    lengths: list[int], graphs: bool, data: st.DataObject
) -> None:
    """Or to the recorded length above it; the answer is as long as the batch."""
    cuda = LazyCuda()
    plan = plan_of(cuda, (-1, -1), 8, 200, graphs=graphs)
    count = len(lengths)
    random = np.random.default_rng(count)
    values = random.random((count, max(lengths))).astype(np.float32)
    values[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = 0
    dataset = ArrayDataset({INPUT: values}, count, np.array(lengths, np.int32))
    samples = library(plan, dataset, max(lengths))
    samples.load(list(range(count)))
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    stream = open_stream(plan, model(dynamic=True))
    stream.infer({INPUT: np.full((8, 200), 5, np.float32)}, 8)  # what lay there before
    (found,) = stream.infer(samples.gather(chosen), len(chosen))
    width = max(lengths[i] for i in chosen)

    assert np.array_equal(2 * values[chosen][:, :width] + 1, found)


def test_memory_comes_back_while_a_stream_is_open() -> None:
    """Warm-up and run each load; nothing piles up."""
    cuda = LazyCuda()
    plan = plan_of(cuda, (-1, 3), 4, 0, graphs=False)
    stream = open_stream(plan, model(dynamic=False))
    before = len(cuda.memory)
    samples = library(plan, ArrayDataset({INPUT: np.zeros((9, 3), np.float32)}, 9))
    counts = []
    for _ in range(3):
        samples.load([1, 2])
        counts.append(len(cuda.memory))
    samples.unload([1, 2])

    assert counts == [before + 1] * 3
    assert len(cuda.memory) == before
    stream.close()


def test_a_device_without_room_says_what_to_leave_away() -> None:
    """Before the run, with the count."""
    plan = plan_of(LazyCuda(room=100), (-1, 3), 4, 0, graphs=False)
    samples = library(plan, ArrayDataset({INPUT: np.zeros((9, 3), np.float32)}, 9))
    with pytest.raises(BuildFailed, match=r"9 samples do not fit .*out of memory"):
        samples.load(list(range(9)))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_runs_of_neighbours_are_the_samples_in_their_order(chosen: list[int]) -> None:
    """One transfer a run copies exactly what one a sample would."""
    found = find_runs(np.array(chosen, np.int32))
    copied = [first + i for _, first, count in found for i in range(count)]

    assert copied == chosen
    assert [start for start, _, _ in found] == [
        sum(count for _, _, count in found[:i]) for i in range(len(found))
    ]
