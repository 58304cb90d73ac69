"""Triton kernels of the packed encoder: embedding, LayerNorm, attention, logits.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: ARG001, N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _store(values, out, inside, out_fp8, scale, FP8: tl.constexpr, BOTH: tl.constexpr):
    """Store rows in the working type, in fp8, or in both."""
    if BOTH:
        tl.store(out, values.to(out.dtype.element_ty), mask=inside)
    if FP8:
        scaled = tl.clamp(values * tl.load(scale), -448.0, 448.0)
        tl.store(out_fp8, scaled.to(out_fp8.dtype.element_ty), mask=inside)


@triton.jit
def _normalize(x, inside, gamma, beta, columns, H: tl.constexpr, eps):
    mean = tl.sum(x, 0) / H
    centered = tl.where(inside, x - mean, 0.0)
    inverse_std = tl.rsqrt(tl.sum(centered * centered, 0) / H + eps)
    g = tl.load(gamma + columns, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(beta + columns, mask=inside, other=0.0).to(tl.float32)
    return centered * inverse_std * g + b


@triton.jit
def embed(
    tokens, word_embeddings, position_embeddings, token_type_embeddings, gamma, beta,
    out, out_fp8, scale, stride, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    """Sum the three embeddings of a token and normalize; one program a token.

    ``tokens`` is int32 [3, stride]: token id, position, token type.
    """
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    token = tl.load(tokens + row).to(tl.int64)
    position = tl.load(tokens + stride + row)
    token_type = tl.load(tokens + 2 * stride + row)
    x = tl.load(word_embeddings + token * H + columns, mask=inside, other=0.0)
    x = x.to(tl.float32)
    y = tl.load(
        token_type_embeddings + token_type * H + columns, mask=inside, other=0.0
    )
    x += y.to(tl.float32)
    y = tl.load(position_embeddings + position * H + columns, mask=inside, other=0.0)
    x += y.to(tl.float32)
    x = _normalize(x, inside, gamma, beta, columns, H, eps)
    at = row.to(tl.int64) * H + columns
    _store(x, out + at, inside, out_fp8 + at, scale, FP8, True)


@triton.jit
def normalize(
    x, gamma, beta, out, out_fp8, scale, rows, eps,
    H: tl.constexpr, BLOCK: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    """LayerNorm of each row, in the working type and (FP8) scaled to fp8 too."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    at = row.to(tl.int64) * H + columns
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    y = _normalize(y, inside, gamma, beta, columns, H, eps)
    _store(y, out + at, inside, out_fp8 + at, scale, FP8, True)


@triton.jit
def _within(inside, dims, D: tl.constexpr, BLOCK: tl.constexpr):
    """Rows that are ``inside``, without the numbers beyond D; no mask where D fits."""
    return inside if BLOCK == D else inside & (dims < D)


@triton.jit
def attend(
    qkv, out, out_fp8, scale, qkv_scale, blocks, softmax_scale,
    H: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, M: tl.constexpr,
    N: tl.constexpr, FP8: tl.constexpr, QKV_FP8: tl.constexpr,
):  # fmt: skip
    """Attention of M queries of one sequence and one head to the whole sequence.

    BLOCK is the head size D, or the power of two above it: the numbers beyond D are 0.
    ``qkv`` is [tokens, 3, H]; with QKV_FP8 ``qkv_scale`` undoes its scale. ``blocks``
    int32 [programs, 3]: the sequence's first token, its length, and the first query's
    place in it; length 0 does nothing. Programs next to each other are the heads of a
    block, whose rows are neighbors in memory. ``softmax_scale`` includes log2(e)
    because the hardware has exp2.
    """
    head = tl.program_id(0) * D
    first = tl.load(blocks + tl.program_id(1) * 3).to(tl.int64)
    length = tl.load(blocks + tl.program_id(1) * 3 + 1)
    start = tl.load(blocks + tl.program_id(1) * 3 + 2)
    if length == 0:
        return
    if QKV_FP8:
        undo = tl.load(qkv_scale)
        softmax_scale = softmax_scale * undo * undo
    dims = tl.arange(0, BLOCK)
    queries = start + tl.arange(0, M)
    keys = tl.arange(0, N)
    base = qkv + first * 3 * H + head
    q_mask = _within(queries[:, None] < length, dims[None, :], D, BLOCK)
    at = queries[:, None] * (3 * H) + dims[None, :]
    q = tl.load(base + at, mask=q_mask, other=0.0)
    running_max = tl.full([M], -1e30, tl.float32)
    denominator = tl.zeros([M], tl.float32)
    context = tl.zeros([M, BLOCK], tl.float32)
    for begin in range(0, length, N):
        inside = begin + keys < length
        row = (begin + keys) * (3 * H)
        k_mask = _within(inside[None, :], dims[:, None], D, BLOCK)
        k = tl.load(base + H + row[None, :] + dims[:, None], mask=k_mask, other=0.0)
        score = tl.where(inside[None, :], tl.dot(q, k), -1e30)
        new_max = tl.maximum(running_max, tl.max(score, 1))
        # The scale is applied to differences: one multiply-add a score.
        top = new_max * softmax_scale
        probability = tl.exp2(score * softmax_scale - top[:, None])
        rescale = tl.exp2(running_max * softmax_scale - top)
        denominator = denominator * rescale + tl.sum(probability, 1)
        v_mask = _within(inside[:, None], dims[None, :], D, BLOCK)
        v = tl.load(base + 2 * H + row[:, None] + dims[None, :], mask=v_mask, other=0.0)
        if QKV_FP8:
            v = v.to(tl.float16)
        context = context * rescale[:, None]
        context = tl.dot(probability.to(v.dtype), v, context)
        running_max = new_max
    if QKV_FP8:
        denominator = denominator / undo
    context = context / denominator[:, None]
    at = (first + queries[:, None]) * H + head + dims[None, :]
    _store(context, out + at, q_mask, out_fp8 + at, scale, FP8, not FP8)


@triton.jit
def qa_logits(
    x, weight, bias, out,
    H: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Start and end logit of each token: float32 [tokens, 2]."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < H
    at = row.to(tl.int64) * H + columns
    y = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    for end in tl.static_range(2):
        w = tl.load(weight + end * H + columns, mask=inside, other=0.0)
        logit = tl.sum(y * w.to(tl.float32), 0) + tl.load(bias + end).to(tl.float32)
        tl.store(out + row * 2 + end, logit)
