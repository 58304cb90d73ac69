"""Batches and answers through shared memory: whole, in order, of any size."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.sut.shared_batch import Answerer
from pytest_mlperf.sut.shared_batch import BatchSlot
from pytest_mlperf.sut.shared_batch import Caller
from pytest_mlperf.sut.shared_batch import Ended
from pytest_mlperf.sut.shared_batch import make_pair

MOST = 64


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Caller, Answerer]]:
    """Both ends, each with a map of its own, as two processes have it."""
    caller, far = make_pair(MOST)
    answerer = Answerer(BatchSlot(os.dup(caller.slot.descriptor), MOST), far)
    yield caller, answerer
    caller.close()
    answerer.close()


def read(base: int, row: int, counts: list[int]) -> list[bytes]:
    """Return each sample's answer as LoadGen copies it: from an address."""
    return [
        ctypes.string_at(base + number * row, count)
        for number, count in enumerate(counts)
    ]


batches = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=MOST)


@given(batches, st.integers(0, 9000), st.data())
def test_a_batch_arrives_whole_and_its_answers_come_back(
    ends: tuple[Caller, Answerer], indices: list[int], width: int, data: st.DataObject
) -> None:
    """Rows of any width (the slot grows), each with its own length or not."""
    caller, answerer = ends
    size = len(indices)
    lengths = st.lists(st.integers(0, width), min_size=size, max_size=size)
    sizes = data.draw(st.none() | lengths)
    tokens = data.draw(st.none() | lengths)
    rows: Array = np.random.default_rng(size).integers(0, 255, (size, width), np.uint8)
    caller.ask(indices)
    taken = answerer.take()
    answerer.answer(Responses(rows, sizes, tokens))
    base, row, counts, told = caller.wait(size)

    assert indices == taken
    assert width == row
    assert (counts, told) == (sizes, tokens)
    each = counts or [row] * size
    assert [rows[i, : each[i]].tobytes() for i in range(size)] == read(base, row, each)


def test_the_end_of_one_side_is_told_to_the_other() -> None:
    """Who waits for answers learns that there will be none, and who waits for batches
    that there are no more.
    """
    caller, far = make_pair(MOST)
    answerer = Answerer(BatchSlot(os.dup(caller.slot.descriptor), MOST), far)
    caller.ask([1])
    answerer.take()
    answerer.close()
    with pytest.raises(Ended):
        caller.wait(1)
    with pytest.raises(Ended):
        caller.ask([2])
    other, far = make_pair(MOST)
    found: list[list[int] | None] = []
    waiting = Answerer(BatchSlot(os.dup(other.slot.descriptor), MOST), far)
    thread = threading.Thread(target=lambda: found.append(waiting.take()))
    thread.start()
    other.close()
    thread.join(30)

    assert found == [None]
    waiting.close()
    caller.close()
