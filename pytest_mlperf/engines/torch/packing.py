"""Packing: sequences of a batch laid end to end, so that nothing is padded. Pure numpy.

A *chunk* is what one pass over the device takes: at most so many tokens. A *bucket* is
a number of tokens that a pass is prepared for (buffers, CUDA graph); a chunk runs in
the smallest bucket that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array

ROWS = 64
"""Queries that one attention program takes: sequences are cut into blocks of them."""
STEP = 512
"""Small buckets are multiples of this; larger ones grow by about an eighth."""

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows of a batch that go through the device together."""

    start: int
    end: int
    tokens: int
    blocks: int


def buckets(most: int) -> tuple[int, ...]:
    """Return the prepared token counts, ascending, the last one ``most``."""
    found, size = [], STEP
    while size < most:
        found.append(size)
        step = max(STEP, size // 8 // STEP * STEP)
        size += step
    return (*found, most)


def capacity(bucket: int) -> int:
    """Return how many attention blocks a bucket has room for.

    Sequences of half a block fill it with tokens; shorter ones fill it with blocks.
    """
    return 2 * bucket // ROWS + 1


def bucket_for(chunk: Chunk, prepared: Sequence[int]) -> int:
    """Return the smallest prepared bucket that holds a chunk."""
    for bucket in prepared:
        if chunk.tokens <= bucket and chunk.blocks <= capacity(bucket):
            return bucket
    raise ValueError(
        f"a chunk of {chunk.tokens} tokens in {chunk.blocks} blocks should fit into "
        f"{max(prepared)} tokens and {capacity(max(prepared))} blocks; prepare a "
        "larger bucket (engine option max_tokens)"
    )


def chunks(lengths: Ints, most: int) -> list[Chunk]:
    """Cut a batch into neighbouring rows of at most ``most`` tokens.

    Even parts, where more than one is needed: a small rest would run badly.
    """
    tokens = np.cumsum(lengths)
    blocks = np.cumsum(-(-lengths // ROWS))
    if not len(lengths):
        return []
    room = capacity(most)
    parts = max(-(-int(tokens[-1]) // most), -(-int(blocks[-1]) // room))
    share = int(tokens[-1]) / parts
    found: list[Chunk] = []
    start, t0, b0 = 0, 0, 0
    for row in range(len(lengths)):
        t, b = int(tokens[row]) - t0, int(blocks[row]) - b0
        over = t > most or b > room
        if row > start and (over or t > share + int(lengths[row]) / 2):
            end_t, end_b = int(tokens[row - 1]), int(blocks[row - 1])
            found.append(Chunk(start, row, end_t - t0, end_b - b0))
            start, t0, b0 = row, end_t, end_b
    found.append(Chunk(start, len(lengths), int(tokens[-1]) - t0, int(blocks[-1]) - b0))
    return found


def block_map(lengths: Ints) -> Ints:
    """Return [block, 3]: its sequence's first token and length, and its first row."""
    counts = -(-lengths // ROWS)
    firsts = np.cumsum(lengths) - lengths
    owners = np.repeat(np.arange(len(lengths)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    found = np.empty((len(owners), 3), np.int32)
    found[:, 0] = firsts[owners]
    found[:, 1] = lengths[owners]
    found[:, 2] = (np.arange(len(owners)) - before) * ROWS
    return found


def lay_out(
    ids: Array, mask: Array, kinds: Array, lengths: Ints, into: Ints, bucket: int
) -> None:
    """Write a chunk's tokens, places, kinds and block map into one flat int32 array.

    ``into`` holds ``flat_size(bucket)`` numbers; what a chunk does not fill is zero:
    token 0 at place 0, which nothing looks at, and blocks of length 0.
    """
    inside = mask.astype(bool, copy=False)
    total = int(lengths.sum())
    table = into[: 3 * bucket].reshape(3, bucket)
    table[0, :total] = ids[inside]
    firsts = np.cumsum(lengths) - lengths
    table[1, :total] = np.arange(total) - np.repeat(firsts, lengths)
    table[2, :total] = kinds[inside]
    table[:, total:] = 0
    found = block_map(lengths)
    spots = into[3 * bucket : flat_size(bucket)].reshape(-1, 3)
    spots[: len(found)] = found
    spots[len(found) :] = 0


def flat_size(bucket: int) -> int:
    """Return how many int32 numbers describe a chunk of a bucket."""
    return 3 * bucket + 3 * capacity(bucket)


def unpack(packed: Array, mask: Array) -> tuple[Array, Array]:
    """Spread logits [tokens, 2] over rows again: two float32 [batch, width]; padding
    is zero.
    """
    inside = mask.astype(bool, copy=False)
    first = np.zeros(inside.shape, np.float32)
    last = np.zeros(inside.shape, np.float32)
    first[inside] = packed[:, 0]
    last[inside] = packed[:, 1]
    return first, last
