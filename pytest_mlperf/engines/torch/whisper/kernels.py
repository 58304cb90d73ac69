"""A Triton kernel of Whisper's decoder: one query's attention to cached keys.

Imports triton at its top: this module is imported by functions only.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attend_one(
    query, cache, out, valid, query_stride, length, softmax_scale,
    WIDTH: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Attention of one query to the first ``valid`` keys; a program a sample and head.

    ``query`` [batch, …] has a row each ``query_stride``; ``cache`` is
    [batch, length, 2, WIDTH], keys and values of all heads; ``valid`` int32 [1] is on
    the device, so that a recorded graph may be replayed for every position.
    ``softmax_scale`` includes log2(e) because the hardware has exp2.
    """
    sample, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dims, keys = tl.arange(0, D), tl.arange(0, N)
    count = tl.load(valid)
    q = tl.load(query + sample * query_stride + head * D + dims).to(tl.float32)
    base = cache + sample * length * (2 * WIDTH) + head * D
    running_max = tl.full([1], -1e30, tl.float32)
    denominator = tl.zeros([1], tl.float32)
    context = tl.zeros([D], tl.float32)
    for begin in range(0, count, N):
        inside = begin + keys < count
        at = base + (begin + keys)[:, None] * (2 * WIDTH) + dims[None, :]
        k = tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        score = tl.sum(k * q[None, :], 1) * softmax_scale
        score = tl.where(inside, score, -1e30)
        new_max = tl.maximum(running_max, tl.max(score, 0))
        probability = tl.exp2(score - new_max)
        rescale = tl.exp2(running_max - new_max)
        denominator = denominator * rescale + tl.sum(probability, 0)
        v = tl.load(at + WIDTH, mask=inside[:, None], other=0.0).to(tl.float32)
        context = context * rescale + tl.sum(v * probability[:, None], 0)
        running_max = new_max
    context = context / denominator
    at = out + (sample * tl.num_programs(1) + head) * D + dims
    tl.store(at, context.to(out.dtype.element_ty))
