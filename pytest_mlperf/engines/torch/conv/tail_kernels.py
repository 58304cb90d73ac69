"""A Triton kernel for the end of a residual block.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tail(
    x, weight, bias, side, side_weight, out, rows,
    height, width, out_height, out_width, back, side_back, factor,
    DEEP: tl.constexpr, WIDE: tl.constexpr, SIDE: tl.constexpr, STRIDE: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """``out = relu(x weight + side)`` in fp8, as 1x1 convolutions.

    ``x`` [rows, DEEP], ``weight`` [WIDE, DEEP]; ``side`` is a shortcut [rows, WIDE], or
    with SIDE the block's input [batch, height, width, SIDE], which ``side_weight``
    [WIDE, SIDE] makes one. M rows of x are kept while all columns are computed, N at a
    time. ``back`` undoes the scales of the first product, ``side_back`` those of the
    side, ``factor`` is the result's.
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    deep = tl.arange(0, DEEP)
    inside = row < rows
    far = row.to(tl.int64)
    a = tl.load(x + far[:, None] * DEEP + deep[None, :], mask=inside[:, None],
                other=0.0)  # fmt: skip
    if SIDE:
        part = tl.arange(0, SIDE)
        base = far
        if STRIDE > 1:
            pixels = out_height * out_width
            at = row % pixels
            line = (row // pixels) * height + (at // out_width) * STRIDE
            base = line.to(tl.int64) * width + (at % out_width) * STRIDE
        c = tl.load(side + base[:, None] * SIDE + part[None, :], mask=inside[:, None],
                    other=0.0)  # fmt: skip
    else:
        spot = far[:, None] * WIDE + tl.arange(0, N)[None, :]
        ahead = tl.load(side + spot, mask=inside[:, None], other=0.0)
    for first in range(0, WIDE, N):
        column = first + tl.arange(0, N)
        spot = far[:, None] * WIDE + column[None, :]
        b = tl.load(weight + column[None, :] * DEEP + deep[:, None])
        if SIDE:
            d = tl.load(side_weight + column[None, :] * SIDE + part[:, None])
            total = tl.dot(c, d) * (side_back / back)
            result = tl.dot(a, b, total) * back
        else:
            # The next columns' shortcut is on its way while these are computed.
            other = ahead
            known = inside & (first + N < WIDE)
            ahead = tl.load(side + spot + N, mask=known[:, None], other=0.0)
            result = tl.dot(a, b) * back + other.to(tl.float32) * side_back
        result = tl.maximum(result + tl.load(bias + column)[None, :], 0.0)
        low = tl.minimum(result * factor, 448.0)
        tl.store(out + spot, low.to(out.dtype.element_ty), mask=inside[:, None])
