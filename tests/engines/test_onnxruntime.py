"""What the onnxruntime engine does beyond running a session."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.engines.onnxruntime import stack_padded


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_arrays_of_different_lengths_are_stacked(shapes: list[tuple[int, int]]) -> None:
    """Each keeps its numbers; what is added is zero."""
    arrays = [np.full(shape, 7, np.int32) for shape in shapes]
    stacked = stack_padded(arrays)

    assert stacked.dtype == np.int32
    assert len(stacked) == len(arrays)
    for row, array in zip(stacked, arrays, strict=True):
        height, width = array.shape
        assert (row[:height, :width] == array).all()
        assert row.sum() == array.sum()
