"""Triton kernels of instance and group normalization, channels-last activations.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def measure_blocks(
    x, partial, voxels, channels,
    VOXELS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write mean and sum of squared differences of each block and channel.

    ``x`` [batch, voxels, channels], ``partial`` [batch, blocks, 2, channels].
    """
    block, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    first, last = block * VOXELS, tl.minimum((block + 1) * VOXELS, voxels)
    # Differences from one voxel are as small as the spread, however large the mean:
    # their squares can be summed as they come, and reduced once.
    pivot = tl.load(x + (sample * voxels + first) * channels + channel).to(tl.float32)
    sums = tl.zeros((ROWS, WIDTH), tl.float32)
    squares = tl.zeros((ROWS, WIDTH), tl.float32)
    for begin in range(first, last, ROWS):
        voxel = begin + tl.arange(0, ROWS)
        inside = (voxel < last)[:, None]
        at = (sample * voxels + voxel)[:, None] * channels + channel[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        distance = tl.where(inside, value - pivot[None, :], 0.0)
        sums += distance
        squares += distance * distance
    total = tl.sum(sums, 0)
    count = (last - first).to(tl.float32)
    spot = (sample * tl.num_programs(0) + block) * 2 * channels + channel
    tl.store(partial + spot, pivot + total / count)
    tl.store(partial + spot + channels, tl.sum(squares, 0) - total * total / count)


@triton.jit
def merge_blocks(
    partial, weight, bias, factors, voxels, channels, blocks, epsilon,
    VOXELS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write what a value is multiplied by and what is added: [batch, 2, channels]."""
    sample = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    base = partial + sample * blocks * 2 * channels + channel[None, :]
    sums = tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, blocks, ROWS):
        block = begin + tl.arange(0, ROWS)
        held = tl.minimum(tl.maximum(voxels - block * VOXELS, 0), VOXELS)
        inside = (block < blocks)[:, None]
        mean = tl.load(base + block[:, None] * 2 * channels, mask=inside, other=0.0)
        sums += tl.sum(mean * (held[:, None] / voxels), 0)
    squares = tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, blocks, ROWS):
        block = begin + tl.arange(0, ROWS)
        held = tl.minimum(tl.maximum(voxels - block * VOXELS, 0), VOXELS)
        inside = (block < blocks)[:, None]
        at = base + block[:, None] * 2 * channels
        shift = tl.load(at, mask=inside, other=0.0) - sums[None, :]
        own = tl.load(at + channels, mask=inside, other=0.0)
        squares += tl.sum(own + held[:, None].to(tl.float32) * shift * shift, 0)
    scale = tl.load(weight + channel).to(tl.float32)
    scale *= 1.0 / tl.sqrt(squares / voxels + epsilon)
    at = factors + sample * 2 * channels + channel
    tl.store(at, scale)
    tl.store(at + channels, tl.load(bias + channel).to(tl.float32) - sums * scale)


@triton.jit
def normalize(
    x, factors, out, voxels, channels,
    RELU: tl.constexpr, VOXELS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write x * factor + summand, or with RELU what of it is above 0, in the layout of
    ``measure_blocks``.
    """
    block, sample = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    spot = sample * 2 * channels + channel
    scale = tl.load(factors + spot)[None, :]
    summand = tl.load(factors + spot + channels)[None, :]
    last = tl.minimum((block + 1) * VOXELS, voxels)
    for begin in range(block * VOXELS, last, ROWS):
        voxel = begin + tl.arange(0, ROWS)
        inside = (voxel < last)[:, None]
        at = (sample * voxels + voxel)[:, None] * channels + channel[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        value = value * scale + summand
        if RELU:
            value = tl.maximum(value, 0.0)
        tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)
