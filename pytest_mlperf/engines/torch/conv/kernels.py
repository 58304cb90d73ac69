"""Triton kernels of the fp8 convolution net: pixels by channels (NHWC) throughout.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def convolve(
    x, weight, bias, shortcut, out, rows, into, columns,
    height, width, out_height, out_width, back, shortcut_back, factor,
    SIDE: tl.constexpr, STRIDE: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A convolution as a product that gathers its left side: fp8 in, fp8 out.

    ``x`` [batch, height, width, into], ``weight`` [columns, SIDE, SIDE, into], ``out``
    and ``shortcut`` [rows, columns] where a row is a pixel of the result; padded to
    keep the size. ``back`` undoes both scales, ``factor`` is the result's.
    """
    # Programs go down GROUP row tiles before the next column tile: their rows of x and
    # the weights stay in L2.
    tiles = tl.cdiv(columns, N)
    span = GROUP * tiles
    first = (tl.program_id(0) // span) * GROUP
    height_of = tl.minimum(tl.cdiv(rows, M) - first, GROUP)
    tile_m = first + (tl.program_id(0) % span) % height_of
    tile_n = (tl.program_id(0) % span) // height_of

    row = tile_m * M + tl.arange(0, M)
    column = tile_n * N + tl.arange(0, N)
    part = tl.arange(0, K)
    inside = row < rows
    taps = SIDE * SIDE * into
    if SIDE == 1 and STRIDE == 1:
        base = row.to(tl.int64) * into
    else:
        pixels = out_height * out_width
        picture = row // pixels
        at = row % pixels
        y = (at // out_width) * STRIDE - SIDE // 2
        z = (at % out_width) * STRIDE - SIDE // 2
        base = ((picture.to(tl.int64) * height + y) * width + z) * into
    total = tl.zeros([M, N], tl.float32)
    for k in range(0, taps, K):
        if SIDE == 1:
            spot = base + k
            known = inside
        else:
            tap = k // into
            down, right = tap // SIDE, tap % SIDE
            spot = base + (down * width + right) * into + (k - tap * into)
            known = inside & (y + down >= 0) & (y + down < height)
            known = known & (z + right >= 0) & (z + right < width)
        a = tl.load(x + spot[:, None] + part[None, :], mask=known[:, None], other=0.0)
        b = tl.load(weight + column[None, :] * taps + (k + part)[:, None])
        total = tl.dot(a, b, total)
    result = total * back + tl.load(bias + column)[None, :]
    spot = row.to(tl.int64)[:, None] * columns + column[None, :]
    if ADD:
        other = tl.load(shortcut + spot, mask=inside[:, None], other=0.0)
        result += other.to(tl.float32) * shortcut_back
    if RELU:
        result = tl.maximum(result, 0.0)
    low = tl.clamp(result * factor, -448.0, 448.0)
    tl.store(out + spot, low.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def tap(
    x, base, y, z, inside, part, height, width, C: tl.constexpr,
    DOWN: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """Load the pixels that one of nine weights meets; zeros beyond the picture."""
    known = inside & (y + DOWN >= 0) & (y + DOWN < height)
    known = known & (z + RIGHT >= 0) & (z + RIGHT < width)
    spot = (base + (DOWN * width + RIGHT) * C)[:, None] + part[None, :]
    return tl.load(x + spot, mask=known[:, None], other=0.0)


@triton.jit
def narrow(
    x, weight, bias, out, rows, back, factor, HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr, C: tl.constexpr, M: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """``convolve`` of 3x3 and a ReLU, from C channels to C, so few that weights stay.

    What limits it is L2, from which ``convolve`` would fetch them for every tile. Each
    of PROGRAMS goes over every PROGRAMS-th tile of M pixels.
    """
    part = tl.arange(0, C)
    column = tl.arange(0, C)
    w = weight + column[None, :] * (9 * C) + part[:, None]
    b0, b1, b2 = tl.load(w), tl.load(w + C), tl.load(w + 2 * C)
    b3, b4, b5 = tl.load(w + 3 * C), tl.load(w + 4 * C), tl.load(w + 5 * C)
    b6, b7, b8 = tl.load(w + 6 * C), tl.load(w + 7 * C), tl.load(w + 8 * C)
    added = tl.load(bias + column)[None, :]
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, M), PROGRAMS):
        row = tile * M + tl.arange(0, M)
        inside = row < rows
        at = row % (HEIGHT * WIDTH)
        y, z = at // WIDTH - 1, at % WIDTH - 1
        base = (row.to(tl.int64) - WIDTH - 1) * C
        total = tl.dot(tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 0, 0), b0)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 0, 1)
        total = tl.dot(a, b1, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 0, 2)
        total = tl.dot(a, b2, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 1, 0)
        total = tl.dot(a, b3, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 1, 1)
        total = tl.dot(a, b4, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 1, 2)
        total = tl.dot(a, b5, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 2, 0)
        total = tl.dot(a, b6, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 2, 1)
        total = tl.dot(a, b7, total)
        a = tap(x, base, y, z, inside, part, HEIGHT, WIDTH, C, 2, 2)
        total = tl.dot(a, b8, total)
        result = tl.maximum(total * back + added, 0.0)
        low = tl.minimum(result * factor, 448.0)
        spot = row.to(tl.int64)[:, None] * C + column[None, :]
        tl.store(out + spot, low.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def pool(
    x, out, rows, height, width, out_height, out_width, factor,
    C: tl.constexpr, M: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """Largest of 3x3 with stride 2 and padding 1; scaled into the type of ``out``."""
    row = tl.program_id(0) * M + tl.arange(0, M)
    channel = tl.arange(0, C)
    pixels = out_height * out_width
    picture = row // pixels
    at = row % pixels
    y, z = (at // out_width) * 2 - 1, (at % out_width) * 2 - 1
    best = tl.full([M, C], float("-inf"), tl.float32)
    for down in tl.static_range(3):
        for right in tl.static_range(3):
            known = (row < rows) & (y + down >= 0) & (y + down < height)
            known = known & (z + right >= 0) & (z + right < width)
            spot = (picture.to(tl.int64) * height + y + down) * width + z + right
            value = tl.load(
                x + spot[:, None] * C + channel[None, :],
                mask=known[:, None],
                other=float("-inf"),
            )
            best = tl.maximum(best, value.to(tl.float32))
    best = tl.clamp(best * factor, -LIMIT, LIMIT)
    spot = row.to(tl.int64)[:, None] * C + channel[None, :]
    tl.store(out + spot, best.to(out.dtype.element_ty), mask=(row < rows)[:, None])


@triton.jit
def fold(
    x, out, blocks, height, width, pitch, tall, C: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """Rearrange int8 pictures [height, width, C] into blocks of 2x2: [tall, pitch, 16].

    Two blocks of zeros come first in both directions, and what is beyond the picture is
    zero too. A block is (row, column, channel); what is left of its 16 bytes is zero.
    """
    block = tl.program_id(0) * M + tl.arange(0, M)
    part = tl.arange(0, 16)
    picture = block // (tall * pitch)
    at = block % (tall * pitch)
    y = (at // pitch - 2) * 2
    z = (at % pitch - 2) * 2
    down, right = part // (2 * C), part % (2 * C)
    row = y[:, None] + down[None, :]
    column = z[:, None] + (right // C)[None, :]
    known = (part < 4 * C)[None, :] & (block < blocks)[:, None]
    known = known & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    spot = (picture.to(tl.int64) * height * width * C)[:, None]
    spot += (y * width + z)[:, None] * C + (down * width * C + right)[None, :]
    value = tl.load(x + spot, mask=known, other=0)
    spot = block.to(tl.int64)[:, None] * 16 + part[None, :]
    tl.store(out + spot, value, mask=(block < blocks)[:, None])


@triton.jit
def begin(
    x, weight, scale, bias, out, rows, out_height, out_width, pitch, tall, unit,
    COLUMNS: tl.constexpr, M: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """The first convolution, 7x7 with stride 2, as 4x4 blocks of ``fold``: int8 in.

    ``weight`` [COLUMNS, 4, 64] int8. ``scale`` times ``unit`` undoes the weights' scale
    and applies that of ``out``, as ``bias`` does, so that a ReLU is all that is left.
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    column = tl.arange(0, COLUMNS)
    part = tl.arange(0, 64)
    inside = row < rows
    pixels = out_height * out_width
    picture = row // pixels
    at = row % pixels
    line = picture * tall + at // out_width
    base = (line.to(tl.int64) * pitch + at % out_width) * 16
    total = tl.zeros([M, COLUMNS], tl.int32)
    for down in range(4):
        block = base + down * pitch * 16
        a = tl.load(x + block[:, None] + part[None, :], mask=inside[:, None], other=0)
        b = tl.load(weight + column[None, :] * 256 + (down * 64 + part)[:, None])
        total = tl.dot(a, b, total, out_dtype=tl.int32)
    result = total.to(tl.float32) * (tl.load(scale + column) * unit)[None, :]
    result = tl.maximum(result + tl.load(bias + column)[None, :], 0.0)
    low = tl.minimum(result, LIMIT)
    spot = row.to(tl.int64)[:, None] * COLUMNS + column[None, :]
    tl.store(out + spot, low.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def average(
    x, out, channels, back, PIXELS: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Mean over the ``PIXELS`` of a picture, at most ``P``, of C channels; scaled."""
    pixel = tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    spot = (tl.program_id(0) * PIXELS + pixel)[:, None] * channels + channel[None, :]
    value = tl.load(x + spot, mask=(pixel < PIXELS)[:, None], other=0.0)
    mean = tl.sum(value.to(tl.float32), 0) * (back / PIXELS)
    spot = tl.program_id(0) * channels + channel
    tl.store(out + spot, mean.to(out.dtype.element_ty))
