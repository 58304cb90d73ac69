"""Packing without a device: nothing is lost, nothing is padded, everything fits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.engines.torch import packing

MOST = 2048
LENGTHS = st.lists(st.integers(1, 384), min_size=1, max_size=80).map(
    lambda found: np.array(found, np.int32)
)


@given(LENGTHS)
def test_chunks_take_every_row_once_and_fit_their_bucket(lengths: packing.Ints) -> None:
    """Rows stay in order, and a chunk never asks for more than was prepared."""
    prepared = packing.choose_buckets(MOST)
    found = packing.cut_chunks(lengths, MOST)
    ends = [0, *(chunk.end for chunk in found)]

    assert [chunk.start for chunk in found] == ends[:-1]
    assert ends[-1] == len(lengths)
    for chunk in found:
        mine = lengths[chunk.start : chunk.end]
        assert mine.sum() == chunk.tokens <= packing.find_bucket(chunk, prepared)
        assert int((-(-mine // packing.BLOCK_QUERIES)).sum()) == chunk.blocks


@given(LENGTHS)
def test_every_chunk_but_the_last_is_as_full_as_it_gets(lengths: packing.Ints) -> None:
    """The next row would have exceeded the tokens or the attention blocks."""
    found = packing.cut_chunks(lengths, MOST)
    for chunk in found[:-1]:
        following = int(lengths[chunk.end])
        blocks = chunk.blocks + -(-following // packing.BLOCK_QUERIES)
        too_long = chunk.tokens + following > MOST

        assert too_long or blocks > packing.block_capacity(MOST)


@given(LENGTHS)
def test_the_block_map_covers_every_token_once(lengths: packing.Ints) -> None:
    """Attention computes each query of each sequence, and no other."""
    seen = np.zeros(int(lengths.sum()), int)
    for first, length, start in packing.map_blocks(lengths):
        seen[first + start : first + min(start + packing.BLOCK_QUERIES, length)] += 1

    assert seen.tolist() == np.ones(len(seen), int).tolist()


@given(LENGTHS)
def test_the_map_of_sequences_has_each_once_the_longest_first(
    lengths: packing.Ints,
) -> None:
    """Attention that takes whole sequences finds every token once."""
    seen = np.zeros(int(lengths.sum()), int)
    found = packing.map_sequences(lengths)
    for first, length in found:
        seen[first : first + length] += 1

    assert seen.tolist() == np.ones(len(seen), int).tolist()
    assert found[:, 1].tolist() == sorted(lengths.tolist(), reverse=True)


@given(LENGTHS.filter(lambda found: found.sum() <= MOST))
def test_both_maps_lie_behind_the_tokens_and_end_with_zeros(
    lengths: packing.Ints,
) -> None:
    """A kernel stops at length 0, whatever an earlier chunk had left."""
    flat = np.full(packing.flat_size(MOST), -1, np.int32)
    packing.write_maps(lengths, flat, MOST)
    split = packing.find_sequences(MOST)
    blocks = flat[3 * MOST : split].reshape(-1, 3)
    sequences = flat[split:].reshape(-1, 2)
    count = len(lengths)

    assert (flat[: 3 * MOST] == -1).all()
    assert len(blocks) == len(sequences) == packing.block_capacity(MOST)
    assert np.array_equal(sequences[:count], packing.map_sequences(lengths))
    assert blocks[:, 1].astype(bool).sum() == len(packing.map_blocks(lengths))
    assert not sequences[count:].any()


@given(LENGTHS.filter(lambda found: found.sum() <= MOST))
def test_what_is_laid_out_comes_back_where_it_was(lengths: packing.Ints) -> None:
    """Packing and unpacking are each other's inverse; padding is zero afterwards."""
    width = int(lengths.max())
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    ids = np.arange(1, mask.size + 1).reshape(mask.shape)
    flat = np.full(packing.flat_size(MOST), -1, np.int32)
    packing.lay_out(ids, mask, mask * 2, lengths, flat, MOST)
    table = flat[: 3 * MOST].reshape(3, MOST)
    total = int(lengths.sum())
    first, last = packing.unpack(table[[0, 2], :total].T.astype(np.float32), mask)
    places = np.concatenate([np.arange(n) for n in lengths])

    assert first.tolist() == (ids * mask).tolist()
    assert last.tolist() == (mask * 2).tolist()
    assert places.tolist() == table[1, :total].tolist()
    assert not table[:, total:].any()


def test_buckets_ascend_in_steps_of_an_eighth_at_most() -> None:
    """A chunk wastes little of the bucket that it runs in."""
    found = packing.choose_buckets(16384)
    waste = [b / a for a, b in itertools.pairwise(found[8:])]

    assert sorted(set(found)) == list(found)
    assert found[-1] == 16384
    assert max(waste) <= 1.126


def test_a_chunk_that_was_not_prepared_for_is_refused_in_numbers() -> None:
    """The message has what was found, what fits and what to change."""
    chunk = packing.Chunk(0, 9, 900, 15)

    with pytest.raises(
        ValueError, match=r"900 tokens in 15 blocks should fit into 512"
    ):
        packing.find_bucket(chunk, (512,))
