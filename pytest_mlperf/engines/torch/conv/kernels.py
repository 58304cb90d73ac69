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
    x, weight, bias, shortcut, out, rows, in_channels, out_channels,
    height, width, out_height, out_width, dequantize, shortcut_dequantize, quantize,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, ADD: tl.constexpr, RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """A convolution as a product that gathers its left side: fp8 in, fp8 out.

    ``x`` [batch, height, width, in_channels], ``weight`` [out_channels, KERNEL, KERNEL,
    in_channels], ``out`` and ``shortcut`` [result's pixels, out_channels]; padded to
    keep the size. ``dequantize`` undoes both scales, ``quantize`` is the result's.
    """
    # Programs go down GROUP row tiles before the next column tile: their rows of x and
    # the weights stay in L2.
    tiles = tl.cdiv(out_channels, N)
    span = GROUP * tiles
    first = (tl.program_id(0) // span) * GROUP
    group_rows = tl.minimum(tl.cdiv(rows, M) - first, GROUP)
    tile_m = first + (tl.program_id(0) % span) % group_rows
    tile_n = (tl.program_id(0) % span) // group_rows

    row = tile_m * M + tl.arange(0, M)
    column = tile_n * N + tl.arange(0, N)
    channel = tl.arange(0, K)
    inside = row < rows
    taps = KERNEL * KERNEL * in_channels
    if KERNEL == 1 and STRIDE == 1:
        base = row.to(tl.int64) * in_channels
    else:
        pixels = out_height * out_width
        picture = row // pixels
        at = row % pixels
        y = (at // out_width) * STRIDE - KERNEL // 2
        z = (at % out_width) * STRIDE - KERNEL // 2
        base = ((picture.to(tl.int64) * height + y) * width + z) * in_channels
    total = tl.zeros([M, N], tl.float32)
    for k in range(0, taps, K):
        if KERNEL == 1:
            spot = base + k
            known = inside
        else:
            tap = k // in_channels
            down, right = tap // KERNEL, tap % KERNEL
            spot = base + (down * width + right) * in_channels + (k - tap * in_channels)
            known = inside & (y + down >= 0) & (y + down < height)
            known = known & (z + right >= 0) & (z + right < width)
        a = tl.load(
            x + spot[:, None] + channel[None, :], mask=known[:, None], other=0.0
        )
        b = tl.load(weight + column[None, :] * taps + (k + channel)[:, None])
        total = tl.dot(a, b, total)
    result = total * dequantize + tl.load(bias + column)[None, :]
    spot = row.to(tl.int64)[:, None] * out_channels + column[None, :]
    if ADD:
        added = tl.load(shortcut + spot, mask=inside[:, None], other=0.0)
        result += added.to(tl.float32) * shortcut_dequantize
    if RELU:
        result = tl.maximum(result, 0.0)
    scaled = tl.clamp(result * quantize, -448.0, 448.0)
    tl.store(out + spot, scaled.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def load_tap(
    x, base, y, z, inside, channel, height, width, C: tl.constexpr,
    DOWN: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """Load the pixels that one of nine weights meets; zeros beyond the picture."""
    known = inside & (y + DOWN >= 0) & (y + DOWN < height)
    known = known & (z + RIGHT >= 0) & (z + RIGHT < width)
    spot = (base + (DOWN * width + RIGHT) * C)[:, None] + channel[None, :]
    return tl.load(x + spot, mask=known[:, None], other=0.0)


@triton.jit
def convolve_narrow(
    x, weight, bias, out, rows, dequantize, quantize, HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr, C: tl.constexpr, M: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """``convolve`` of 3x3 and a ReLU, from C channels to C, so few that weights stay.

    L2 is the limit, from which ``convolve`` would fetch them for every tile. Each of
    PROGRAMS goes over every PROGRAMS-th tile of M pixels.
    """
    channel = tl.arange(0, C)
    column = tl.arange(0, C)
    w = weight + column[None, :] * (9 * C) + channel[:, None]
    b0, b1, b2 = tl.load(w), tl.load(w + C), tl.load(w + 2 * C)
    b3, b4, b5 = tl.load(w + 3 * C), tl.load(w + 4 * C), tl.load(w + 5 * C)
    b6, b7, b8 = tl.load(w + 6 * C), tl.load(w + 7 * C), tl.load(w + 8 * C)
    bias_row = tl.load(bias + column)[None, :]
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, M), PROGRAMS):
        row = tile * M + tl.arange(0, M)
        inside = row < rows
        at = row % (HEIGHT * WIDTH)
        y, z = at // WIDTH - 1, at % WIDTH - 1
        base = (row.to(tl.int64) - WIDTH - 1) * C
        total = tl.dot(
            load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 0, 0), b0
        )
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 0, 1)
        total = tl.dot(a, b1, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 0, 2)
        total = tl.dot(a, b2, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 1, 0)
        total = tl.dot(a, b3, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 1, 1)
        total = tl.dot(a, b4, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 1, 2)
        total = tl.dot(a, b5, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 2, 0)
        total = tl.dot(a, b6, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 2, 1)
        total = tl.dot(a, b7, total)
        a = load_tap(x, base, y, z, inside, channel, HEIGHT, WIDTH, C, 2, 2)
        total = tl.dot(a, b8, total)
        result = tl.maximum(total * dequantize + bias_row, 0.0)
        scaled = tl.minimum(result * quantize, 448.0)
        spot = row.to(tl.int64)[:, None] * C + column[None, :]
        tl.store(out + spot, scaled.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def max_pool(
    x, out, rows, height, width, out_height, out_width, quantize,
    C: tl.constexpr, M: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """Largest of 3x3 with stride 2 and padding 1; scaled into the type of ``out``."""
    row = tl.program_id(0) * M + tl.arange(0, M)
    channel = tl.arange(0, C)
    pixels = out_height * out_width
    picture = row // pixels
    at = row % pixels
    y, z = (at // out_width) * 2 - 1, (at % out_width) * 2 - 1
    largest = tl.full([M, C], float("-inf"), tl.float32)
    for down in tl.static_range(3):
        for right in tl.static_range(3):
            inside = (row < rows) & (y + down >= 0) & (y + down < height)
            inside = inside & (z + right >= 0) & (z + right < width)
            spot = (picture.to(tl.int64) * height + y + down) * width + z + right
            value = tl.load(
                x + spot[:, None] * C + channel[None, :],
                mask=inside[:, None],
                other=float("-inf"),
            )
            largest = tl.maximum(largest, value.to(tl.float32))
    largest = tl.clamp(largest * quantize, -LIMIT, LIMIT)
    spot = row.to(tl.int64)[:, None] * C + channel[None, :]
    tl.store(out + spot, largest.to(out.dtype.element_ty), mask=(row < rows)[:, None])


@triton.jit
def fold_pixels(
    x, out, blocks, height, width, pitch, tall, C: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """Rearrange int8 pictures [height, width, C] into blocks of 2x2: [tall, pitch, 16].

    Two blocks of zeros come first in both directions, and what is beyond the picture is
    zero too. A block is (row, column, channel); what is left of its 16 bytes is zero.
    """
    block = tl.program_id(0) * M + tl.arange(0, M)
    place = tl.arange(0, 16)
    picture = block // (tall * pitch)
    at = block % (tall * pitch)
    y = (at // pitch - 2) * 2
    z = (at % pitch - 2) * 2
    down, right = place // (2 * C), place % (2 * C)
    row = y[:, None] + down[None, :]
    column = z[:, None] + (right // C)[None, :]
    inside = (place < 4 * C)[None, :] & (block < blocks)[:, None]
    inside = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    spot = (picture.to(tl.int64) * height * width * C)[:, None]
    spot += (y * width + z)[:, None] * C + (down * width * C + right)[None, :]
    value = tl.load(x + spot, mask=inside, other=0)
    spot = block.to(tl.int64)[:, None] * 16 + place[None, :]
    tl.store(out + spot, value, mask=(block < blocks)[:, None])


@triton.jit
def stem(
    x, weight, scale, bias, out, rows, out_height, out_width, pitch, tall, unit,
    OUT: tl.constexpr, M: tl.constexpr, LIMIT: tl.constexpr,
):  # fmt: skip
    """The first convolution, 7x7 with stride 2 on int8, as 4x4 blocks of 2x2 pixels.

    ``weight`` [OUT, 4, 64] int8. ``scale`` times ``unit`` undoes the weights' scale
    and applies that of ``out``, as ``bias`` does, so that a ReLU is all that is left.
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    column = tl.arange(0, OUT)
    place = tl.arange(0, 64)
    inside = row < rows
    pixels = out_height * out_width
    picture = row // pixels
    at = row % pixels
    line = picture * tall + at // out_width
    base = (line.to(tl.int64) * pitch + at % out_width) * 16
    total = tl.zeros([M, OUT], tl.int32)
    for down in range(4):
        block = base + down * pitch * 16
        a = tl.load(x + block[:, None] + place[None, :], mask=inside[:, None], other=0)
        b = tl.load(weight + column[None, :] * 256 + (down * 64 + place)[:, None])
        total = tl.dot(a, b, total, out_dtype=tl.int32)
    result = total.to(tl.float32) * (tl.load(scale + column) * unit)[None, :]
    result = tl.maximum(result + tl.load(bias + column)[None, :], 0.0)
    scaled = tl.minimum(result, LIMIT)
    spot = row.to(tl.int64)[:, None] * OUT + column[None, :]
    tl.store(out + spot, scaled.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def average_pool(
    x, out, channels, dequantize,
    PIXELS: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Mean over the ``PIXELS`` of a picture, at most ``P``, of C channels; scaled."""
    pixel = tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    spot = (tl.program_id(0) * PIXELS + pixel)[:, None] * channels + channel[None, :]
    value = tl.load(x + spot, mask=(pixel < PIXELS)[:, None], other=0.0)
    mean = tl.sum(value.to(tl.float32), 0) * (dequantize / PIXELS)
    spot = tl.program_id(0) * channels + channel
    tl.store(out + spot, mean.to(out.dtype.element_ty))


@triton.jit
def residual_tail(
    x, weight, bias, shortcut, projection, out, rows,
    height, width, out_height, out_width, dequantize, shortcut_dequantize, quantize,
    IN: tl.constexpr, OUT: tl.constexpr, SHORTCUT: tl.constexpr, STRIDE: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """End of a residual block: ``out = relu(x weight + shortcut)`` in fp8, all 1x1.

    ``x`` [rows, IN], ``weight`` [OUT, IN]; ``shortcut`` is [rows, OUT], or with
    SHORTCUT the block's input [batch, height, width, SHORTCUT], which ``projection``
    [OUT, SHORTCUT] projects. M rows of x stay while all columns are computed, N at a
    time. ``dequantize`` undoes the scales of the first product,
    ``shortcut_dequantize`` those of the shortcut; ``quantize`` is the result's.
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    channel = tl.arange(0, IN)
    inside = row < rows
    row64 = row.to(tl.int64)
    a = tl.load(x + row64[:, None] * IN + channel[None, :], mask=inside[:, None],
                other=0.0)  # fmt: skip
    if SHORTCUT:
        source = tl.arange(0, SHORTCUT)
        base = row64
        if STRIDE > 1:
            pixels = out_height * out_width
            at = row % pixels
            line = (row // pixels) * height + (at // out_width) * STRIDE
            base = line.to(tl.int64) * width + (at % out_width) * STRIDE
        c = tl.load(shortcut + base[:, None] * SHORTCUT + source[None, :],
                    mask=inside[:, None], other=0.0)  # fmt: skip
    else:
        spot = row64[:, None] * OUT + tl.arange(0, N)[None, :]
        ahead = tl.load(shortcut + spot, mask=inside[:, None], other=0.0)
    for first in range(0, OUT, N):
        column = first + tl.arange(0, N)
        spot = row64[:, None] * OUT + column[None, :]
        b = tl.load(weight + column[None, :] * IN + channel[:, None])
        if SHORTCUT:
            d = tl.load(projection + column[None, :] * SHORTCUT + source[:, None])
            total = tl.dot(c, d) * (shortcut_dequantize / dequantize)
            result = tl.dot(a, b, total) * dequantize
        else:
            # The next columns' shortcut is on its way while these are computed.
            added = ahead
            known = inside & (first + N < OUT)
            ahead = tl.load(shortcut + spot + N, mask=known[:, None], other=0.0)
            result = tl.dot(a, b) * dequantize
            result += added.to(tl.float32) * shortcut_dequantize
        result = tl.maximum(result + tl.load(bias + column)[None, :], 0.0)
        scaled = tl.minimum(result * quantize, 448.0)
        tl.store(out + spot, scaled.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def add_bias(
    x, bias, count, channels, RELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add a bias a channel to channels-last activations, in place; then ReLU."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    number = tl.arange(0, BLOCK)
    inside = first + number < count
    channel = ((first % channels).to(tl.int32) + number) % channels
    value = tl.load(x + first + number, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel).to(tl.float32)
    if RELU:
        value = tl.maximum(value, 0.0)
    tl.store(x + first + number, value.to(x.dtype.element_ty), mask=inside)
