"""Triton kernels of the packed encoder: embedding, LayerNorm, attention, head.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: ARG001, N803
from __future__ import annotations

import triton
import triton.language as tl

FP8_MAX = 448.0
"""Largest float8_e4m3fn."""


@triton.jit
def _store(values, spot, inside, scaled, scale, FP8: tl.constexpr, BOTH: tl.constexpr):
    """Store rows in the working type, in fp8, or in both."""
    if BOTH:
        tl.store(spot, values.to(spot.dtype.element_ty), mask=inside)
    if FP8:
        low = tl.clamp(values * tl.load(scale), -448.0, 448.0)
        tl.store(scaled, low.to(scaled.dtype.element_ty), mask=inside)


@triton.jit
def _normalise(x, inside, gamma, beta, columns, H: tl.constexpr, eps):
    mean = tl.sum(x, 0) / H
    centred = tl.where(inside, x - mean, 0.0)
    spread = tl.rsqrt(tl.sum(centred * centred, 0) / H + eps)
    g = tl.load(gamma + columns, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(beta + columns, mask=inside, other=0.0).to(tl.float32)
    return centred * spread * g + b


@triton.jit
def embed(
    tokens, words, places, kinds, gamma, beta, out, low, scale, stride, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    """Sum the three embeddings of a token and normalise; one program a token.

    ``tokens`` is int32 [3, stride]: word, place, kind.
    """
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    word = tl.load(tokens + row).to(tl.int64)
    place = tl.load(tokens + stride + row)
    kind = tl.load(tokens + 2 * stride + row)
    x = tl.load(words + word * H + columns, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(kinds + kind * H + columns, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(places + place * H + columns, mask=inside, other=0.0).to(tl.float32)
    y = _normalise(x, inside, gamma, beta, columns, H, eps)
    at = row.to(tl.int64) * H + columns
    _store(y, out + at, inside, low + at, scale, FP8, True)


@triton.jit
def normalise(
    x, gamma, beta, out, low, scale, rows, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    """LayerNorm of each row, in the working type and (FP8) scaled to fp8 too."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    at = row.to(tl.int64) * H + columns
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y = _normalise(y, inside, gamma, beta, columns, H, eps)
    _store(y, out + at, inside, low + at, scale, FP8, True)


@triton.jit
def attend(
    qkv, out, low, scale, blocks, sm_scale,
    H: tl.constexpr, D: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    FP8: tl.constexpr,
):  # fmt: skip
    """Attention of M queries of one sequence and one head to the whole sequence.

    ``qkv`` is [tokens, 3, H]; ``blocks`` int32 [programs, 3]: the sequence's first
    token, its length, and the first query's place in it; length 0 does nothing.
    ``sm_scale`` holds log2(e) too, because exp2 is what the hardware has.
    """
    first = tl.load(blocks + tl.program_id(0) * 3).to(tl.int64)
    length = tl.load(blocks + tl.program_id(0) * 3 + 1)
    start = tl.load(blocks + tl.program_id(0) * 3 + 2)
    if length == 0:
        return
    head = tl.program_id(1) * D
    depth = tl.arange(0, D)
    rows = start + tl.arange(0, M)
    keys = tl.arange(0, N)
    base = qkv + first * 3 * H + head
    q = tl.load(
        base + rows[:, None] * (3 * H) + depth[None, :],
        mask=rows[:, None] < length,
        other=0.0,
    )
    top = tl.full([M], -1e30, tl.float32)
    total = tl.zeros([M], tl.float32)
    mixed = tl.zeros([M, D], tl.float32)
    for begin in range(0, length, N):
        inside = begin + keys < length
        at = (begin + keys) * (3 * H)
        k = tl.load(
            base + H + at[None, :] + depth[:, None], mask=inside[None, :], other=0.0
        )
        score = tl.dot(q, k) * sm_scale
        score = tl.where(inside[None, :], score, -1e30)
        peak = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp2(score - peak[:, None])
        shrink = tl.exp2(top - peak)
        total = total * shrink + tl.sum(weight, 1)
        v = tl.load(
            base + 2 * H + at[:, None] + depth[None, :], mask=inside[:, None], other=0.0
        )
        mixed = mixed * shrink[:, None]
        mixed = tl.dot(weight.to(v.dtype), v, mixed)
        top = peak
    mixed = mixed / total[:, None]
    at = (first + rows[:, None]) * H + head + depth[None, :]
    inside = (rows[:, None] < length) & (depth[None, :] < D)
    _store(mixed, out + at, inside, low + at, scale, FP8, not FP8)


@triton.jit
def head(
    x, weight, bias, out,
    H: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Two logits a token: float32 [tokens, 2]."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    at = row.to(tl.int64) * H + columns
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    for which in tl.static_range(2):
        w = tl.load(weight + which * H + columns, mask=inside, other=0.0)
        logit = tl.sum(y * w.to(tl.float32), 0) + tl.load(bias + which).to(tl.float32)
        tl.store(out + row * 2 + which, logit)
