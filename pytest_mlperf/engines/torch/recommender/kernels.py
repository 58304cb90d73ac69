"""Triton kernels of the recommenders: fused lookup, insertion, dot interaction.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _find_set(row, sets):
    """Spread rows over sets: the high bits of a product with 2^32 over the golden
    ratio.
    """
    spread = (row * 2654435761) & 0xFFFFFFFF
    return (spread * sets) >> 32


@triton.jit
def _read_cached(
    row, inside, tags, uses, cache, host_rows, staged_rows, staged, count,
    now, sets, cached_from, most_staged,
    D: tl.constexpr, WAYS: tl.constexpr, LRU: tl.constexpr,
):  # fmt: skip
    """Return rows [block, D] from the cache, else from host memory, and stage those."""
    numbers = tl.arange(0, D)
    ways = tl.arange(0, WAYS)
    chosen = _find_set(row, sets)
    tag = tl.load(tags + chosen[:, None] * WAYS + ways[None, :])
    matches = (tag == row[:, None].to(tl.int32)).to(tl.int32)
    is_hit = (tl.sum(matches, 1) > 0) & inside
    slot = chosen * WAYS + tl.sum(matches * ways[None, :], 1)
    is_missing = inside & (is_hit == 0)
    if LRU:
        tl.store(uses + slot, now + tl.zeros_like(row), mask=is_hit)
    else:
        used = tl.load(uses + slot, mask=is_hit, other=0)
        tl.store(uses + slot, used + 1, mask=is_hit)
    values = tl.load(
        cache + (cached_from + slot)[:, None] * D + numbers[None, :],
        mask=is_hit[:, None],
        other=0.0,
    )
    fetched = tl.load(
        host_rows + row[:, None] * D + numbers[None, :],
        mask=is_missing[:, None],
        other=0.0,
    )
    place = tl.atomic_add(count + tl.zeros_like(row), 1, mask=is_missing)
    is_staged = is_missing & (place < most_staged)
    tl.store(staged + place, row.to(tl.int32), mask=is_staged)
    tl.store(
        staged_rows + place.to(tl.int64)[:, None] * D + numbers[None, :],
        fetched,
        mask=is_staged[:, None],
    )
    return (values + fetched).to(tl.float32)


@triton.jit
def look_up(
    keys, tags, uses, cache, host, out, staged_rows, staged, count, epoch,
    offsets, sizes, residents, columns, hotness, statistics, batch, sets, cached_from,
    most_staged,
    key_pair_stride, key_column_stride, out_pair_stride, out_table_stride,
    D: tl.constexpr, WAYS: tl.constexpr, BLOCK: tl.constexpr, LRU: tl.constexpr,
):  # fmt: skip
    """Sum the rows of each pair's keys, of all tables; one program a table and block.

    A row comes from the cache on the device, or over the bus from host memory, which
    the address ``host`` points into. Rows that were missing are staged for insertion.
    """
    table = tl.program_id(1)
    pairs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_pair = pairs < batch
    numbers = tl.arange(0, D)
    host_rows = host.to(tl.pointer_type(cache.dtype.element_ty))
    offset = tl.load(offsets + table)
    size = tl.load(sizes + table)
    resident = tl.load(residents + table)
    first = tl.load(columns + table)
    hot = tl.load(hotness + table)
    now = tl.load(epoch)
    total = tl.zeros((BLOCK, D), tl.float32)
    for turn in range(hot):
        at = pairs.to(tl.int64) * key_pair_stride + (first + turn) * key_column_stride
        key = tl.load(keys + at, mask=is_pair, other=0).to(tl.int64)
        # A key outside its table would be another table's row: it counts as unknown.
        inside = is_pair & (key >= 0) & (key < size)
        unknown = tl.sum((is_pair & (inside == 0)).to(tl.int64), 0)
        if unknown > 0:
            tl.atomic_add(statistics + 3, unknown)
        row = offset + key
        if resident >= 0:
            values = tl.load(
                cache + (resident + key)[:, None] * D + numbers[None, :],
                mask=inside[:, None],
                other=0.0,
            )
            total += values.to(tl.float32)
        else:
            total += _read_cached(
                row, inside, tags, uses, cache, host_rows, staged_rows, staged, count,
                now, sets, cached_from, most_staged, D, WAYS, LRU,
            )  # fmt: skip
    spot = pairs.to(tl.int64)[:, None] * out_pair_stride + table * out_table_stride
    tl.store(
        out + spot + numbers[None, :],
        total.to(out.dtype.element_ty),
        mask=is_pair[:, None],
    )


@triton.jit
def insert(
    tags, uses, locks, cache, staged_rows, staged, count, epoch, statistics,
    sets, cached_from, most_staged,
    D: tl.constexpr, WAYS: tl.constexpr, BLOCK: tl.constexpr, LRU: tl.constexpr,
):  # fmt: skip
    """Move staged rows into the cache: at most one a set and batch, so that no row is
    there twice and no two programs write one slot.
    """
    numbers = tl.arange(0, D)
    ways = tl.arange(0, WAYS)
    now = tl.load(epoch)
    last = tl.minimum(tl.load(count), most_staged)
    step = tl.num_programs(0) * BLOCK
    for begin in range(tl.program_id(0) * BLOCK, last, step):
        places = begin + tl.arange(0, BLOCK)
        inside = places < last
        row = tl.load(staged + places, mask=inside, other=0)
        chosen = _find_set(row.to(tl.int64), sets)
        before = tl.atomic_max(locks + chosen, now + tl.zeros_like(row), mask=inside)
        is_first = inside & (before < now)
        at = chosen[:, None] * WAYS + ways[None, :]
        counts = tl.load(uses + at, mask=is_first[:, None], other=0)
        way = tl.argmin(counts, axis=1)
        slot = chosen * WAYS + way
        old = tl.load(tags + slot, mask=is_first, other=-1)
        if LRU:
            tl.store(uses + slot, now + tl.zeros_like(row), mask=is_first)
        else:
            # The count goes on from the evicted row's: old counts lose their weight.
            least = tl.maximum(tl.min(counts, axis=1), 0)
            tl.store(uses + slot, least + 1, mask=is_first)
        tl.store(tags + slot, row, mask=is_first)
        values = tl.load(
            staged_rows + places.to(tl.int64)[:, None] * D + numbers[None, :],
            mask=is_first[:, None],
            other=0.0,
        )
        tl.store(
            cache + (cached_from + slot)[:, None] * D + numbers[None, :],
            values,
            mask=is_first[:, None],
        )
        tl.atomic_add(statistics + 1, tl.sum(is_first.to(tl.int64), 0))
        evicted = is_first & (old >= 0)
        tl.atomic_add(statistics + 2, tl.sum(evicted.to(tl.int64), 0))


@triton.jit
def interact(
    features, out, width,
    F: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """DLRM's interaction: feature 0, then the dot products below the diagonal.

    ``features`` is [batch, F, D], ``out`` [batch, width]; one program a pair.
    ``PRODUCTS`` of float32: ``tf32``, or ``tf32x3``, which is as exact as float32 and
    runs on the matrix units. float16 has but one way.
    """
    pair = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, ROWS)
    numbers = tl.arange(0, D)
    values = tl.load(
        features + pair * F * D + rows[:, None] * D + numbers[None, :],
        mask=(rows < F)[:, None],
        other=0.0,
    )
    dots = tl.dot(values, tl.trans(values), input_precision=PRODUCTS)
    first = tl.load(features + pair * F * D + numbers)
    tl.store(out + pair * width + numbers, first)
    columns = tl.arange(0, ROWS)
    below = (rows[:, None] > columns[None, :]) & (rows < F)[:, None]
    at = D + rows[:, None] * (rows[:, None] - 1) // 2 + columns[None, :]
    tl.store(out + pair * width + at, dots.to(out.dtype.element_ty), mask=below)


@triton.jit
def split(values, out, width, padded, BLOCK: tl.constexpr):
    """Write float32 [rows, width] as [rows, 3 x padded] of TF32: what its ten bits of
    mantissa hold, the same again, and the rest; one program a row.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    value = tl.load(values + row * width + columns, mask=columns < width, other=0.0)
    upper = (value.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    spot = out + row * 3 * padded + columns
    inside = columns < padded
    tl.store(spot, upper, mask=inside)
    tl.store(spot + padded, upper, mask=inside)
    tl.store(spot + 2 * padded, value - upper, mask=inside)
