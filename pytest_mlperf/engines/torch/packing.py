"""Packs the sequences of a batch end to end, so that nothing is padded. Pure numpy.

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

BLOCK_QUERIES = 64
"""Queries of one attention program: sequences are cut into blocks of them."""
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


def choose_buckets(max_tokens: int) -> tuple[int, ...]:
    """Return the prepared token counts, ascending, the last one ``max_tokens``."""
    sizes, size = [], STEP
    while size < max_tokens:
        sizes.append(size)
        step = max(STEP, size // 8 // STEP * STEP)
        size += step
    return (*sizes, max_tokens)


def block_capacity(bucket: int) -> int:
    """Return how many attention blocks a bucket has room for.

    Sequences of half a block fill it with tokens; shorter ones fill it with blocks.
    """
    return 2 * bucket // BLOCK_QUERIES + 1


def find_bucket(chunk: Chunk, prepared: Sequence[int]) -> int:
    """Return the smallest prepared bucket that holds a chunk."""
    for bucket in prepared:
        if chunk.tokens <= bucket and chunk.blocks <= block_capacity(bucket):
            return bucket
    raise ValueError(
        f"a chunk of {chunk.tokens} tokens in {chunk.blocks} blocks should fit into "
        f"{max(prepared)} tokens and {block_capacity(max(prepared))} blocks; prepare a "
        "larger bucket (engine option max_tokens)"
    )


def cut_chunks(lengths: Ints, max_tokens: int) -> list[Chunk]:
    """Cut a batch into neighbouring rows of at most ``max_tokens`` tokens.

    Each chunk takes what fits, because a full pass is the most efficient one; the last
    takes the rest.
    """
    tokens = np.cumsum(lengths)
    blocks = np.cumsum(-(-lengths // BLOCK_QUERIES))
    max_blocks = block_capacity(max_tokens)
    chunks: list[Chunk] = []
    start = tokens_before = blocks_before = 0
    while start < len(lengths):
        end = min(
            int(np.searchsorted(tokens, tokens_before + max_tokens, "right")),
            int(np.searchsorted(blocks, blocks_before + max_blocks, "right")),
        )
        end = max(end, start + 1)
        tokens_after, blocks_after = int(tokens[end - 1]), int(blocks[end - 1])
        size = tokens_after - tokens_before, blocks_after - blocks_before
        chunks.append(Chunk(start, end, *size))
        start, tokens_before, blocks_before = end, tokens_after, blocks_after
    return chunks


def map_blocks(lengths: Ints) -> Ints:
    """Return [block, 3]: its sequence's first token and length, and its first row."""
    counts = -(-lengths // BLOCK_QUERIES)
    firsts = np.cumsum(lengths) - lengths
    owners = np.repeat(np.arange(len(lengths)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    blocks = np.empty((len(owners), 3), np.int32)
    blocks[:, 0] = firsts[owners]
    blocks[:, 1] = lengths[owners]
    blocks[:, 2] = (np.arange(len(owners)) - before) * BLOCK_QUERIES
    return blocks


def map_sequences(lengths: Ints) -> Ints:
    """Return [sequence, 2]: first token and length, the longest sequence first.

    Work that is dealt out in this order ends at about the same time everywhere.
    """
    order = np.argsort(-lengths, kind="stable")
    firsts = np.cumsum(lengths) - lengths
    return np.stack([firsts[order], lengths[order]], 1).astype(np.int32)


def lay_out(
    ids: Array, mask: Array, token_types: Array, lengths: Ints, into: Ints, bucket: int
) -> None:
    """Write a chunk's ids, positions, token types and maps into a flat array.

    ``into`` holds ``flat_size(bucket)`` int32 numbers; what a chunk does not fill is
    zero: token 0 at position 0, which nothing reads, and blocks of length 0.
    """
    inside = mask.astype(bool, copy=False)
    total = int(lengths.sum())
    table = into[: 3 * bucket].reshape(3, bucket)
    table[0, :total] = ids[inside]
    firsts = np.cumsum(lengths) - lengths
    table[1, :total] = np.arange(total) - np.repeat(firsts, lengths)
    table[2, :total] = token_types[inside]
    table[:, total:] = 0
    write_maps(lengths, into, bucket)


def write_maps(lengths: Ints, into: Ints, bucket: int) -> None:
    """Write a chunk's maps of blocks and of sequences behind its rows of tokens."""
    begin = 3 * bucket
    for rows in (map_blocks(lengths), map_sequences(lengths)):
        width = rows.shape[1]
        end = begin + width * block_capacity(bucket)
        table = into[begin:end].reshape(-1, width)
        table[: len(rows)] = rows
        table[len(rows) :] = 0
        begin = end


def find_sequences(bucket: int) -> int:
    """Return where the map of sequences begins in a chunk's numbers.

    There is room for as many as for blocks, because each has a block.
    """
    return 3 * bucket + 3 * block_capacity(bucket)


def flat_size(bucket: int) -> int:
    """Return how many int32 numbers describe a chunk of a bucket."""
    return find_sequences(bucket) + 2 * block_capacity(bucket)


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
