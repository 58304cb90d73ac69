"""Persistent Triton kernels of 1x1 convolutions in fp8, whose data TMA moves.

A program computes one tile of rows while the next ones are on their way and the last
one is written. Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def stream_rows(
    x, weight, bias, shortcut, out, rows, dequantize, shortcut_dequantize, quantize,
    OUT: tl.constexpr, ADD: tl.constexpr, BIAS_LAST: tl.constexpr, M: tl.constexpr,
    N: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """``convolve`` of 1x1 with a ReLU, of so few channels that a row is read at once.

    Descriptors: ``x`` [rows, in] in blocks of [M, in], ``weight`` [OUT, in] of [N, in];
    ``shortcut`` (with ADD) and ``out`` [rows, OUT] of [M, N]. Rows beyond the last are
    read as zeros and not written. A program's weights, of N columns, stay. BIAS_LAST
    sums in the order of ``residual_tail``: the same bits.
    """
    columns: tl.constexpr = OUT // N
    step: tl.constexpr = PROGRAMS // columns
    # Programs next to each other read the same rows: from L2, all but the first.
    place = (tl.program_id(0) % columns) * N
    bias_row = tl.load(bias + place + tl.arange(0, N))[None, :]
    b = weight.load([place, 0])
    first, tiles = tl.program_id(0) // columns, tl.cdiv(rows, M)
    for tile in tl.range(first, tiles, step, num_stages=STAGES):
        a = x.load([tile * M, 0])
        if ADD:
            added = shortcut.load([tile * M, place])
        result = tl.dot(a, b.T) * dequantize
        if not BIAS_LAST:
            result += bias_row
        if ADD:
            result += added.to(tl.float32) * shortcut_dequantize
        if BIAS_LAST:
            result += bias_row
        scaled = tl.minimum(tl.maximum(result, 0.0) * quantize, 448.0)
        out.store([tile * M, place], scaled.to(out.dtype))


@triton.jit
def stream_tiles(
    x, weight, bias, shortcut, out, rows, dequantize, shortcut_dequantize, quantize,
    IN: tl.constexpr, OUT: tl.constexpr, ADD: tl.constexpr, M: tl.constexpr,
    N: tl.constexpr, K: tl.constexpr, PROGRAMS: tl.constexpr, FLATTEN: tl.constexpr,
):  # fmt: skip
    """``convolve`` of 1x1 with a ReLU, of many channels: K at a time.

    Descriptors as in ``stream_rows``, with blocks of K channels; ``shortcut`` (with
    ADD) is the tensor itself. FLATTEN makes one loop of both: the next tile's first
    channels are read during this one's end.
    """
    columns: tl.constexpr = OUT // N
    tiles = tl.cdiv(rows, M) * columns
    for tile in tl.range(tl.program_id(0), tiles, PROGRAMS, flatten=FLATTEN):
        row, place = (tile // columns) * M, (tile % columns) * N
        column = place + tl.arange(0, N)
        if ADD:
            # On its way while the product is computed.
            at = row + tl.arange(0, M)
            spot = at.to(tl.int64)[:, None] * OUT + column[None, :]
            added = tl.load(shortcut + spot, mask=(at < rows)[:, None], other=0.0)
        total = tl.zeros([M, N], tl.float32)
        for k in range(0, IN, K):
            a = x.load([row, k])
            b = weight.load([place, k])
            total = tl.dot(a, b.T, total)
        result = total * dequantize + tl.load(bias + column)[None, :]
        if ADD:
            result += added.to(tl.float32) * shortcut_dequantize
        scaled = tl.minimum(tl.maximum(result, 0.0) * quantize, 448.0)
        out.store([row, place], scaled.to(out.dtype))
