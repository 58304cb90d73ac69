"""Which share of a run's work its answered samples are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.sut.batch_sut import Fixed
from pytest_mlperf.sut.work_share import share_by_length
from pytest_mlperf.sut.work_share import share_equally

LENGTHS = st.lists(st.integers(1, 10_000), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 20))
def test_shares_are_those_of_the_batches_as_they_are_handed_out(
    drawn: list[int], size: int
) -> None:
    lengths = np.array(drawn, np.int32)
    share = share_by_length(lengths)
    indices = list(range(len(drawn))) * 2  # LoadGen draws each sample twice
    answered = work = 0
    for _, batch in Fixed(size).batches(indices, indices, lengths):
        answered += len(batch)
        work += int(lengths[batch].sum())
        if len(indices) > size and answered % 2 == 0:
            found = share(answered / len(indices))
            assert found == pytest.approx(work / (2 * lengths.sum()))
    assert share(1.0) == pytest.approx(1.0)


def test_samples_without_lengths_are_alike() -> None:
    assert share_by_length(None) is share_equally
    assert share_equally(0.3) == 0.3
