"""Run kernels in Triton's interpreter; print each one's error as JSON.

A process of its own: Triton decides at import whether it interprets. Everything is
float16, because the interpreter cuts fp8 off where a device rounds it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch

from pytest_mlperf.engines.torch.bert import kernels as bert
from pytest_mlperf.engines.torch.conv import fp8
from pytest_mlperf.engines.torch.conv import kernels
from pytest_mlperf.engines.torch.conv.pointwise.launch import Tile
from pytest_mlperf.engines.torch.conv.pointwise.launch import run_pointwise
from pytest_mlperf.engines.torch.conv.stem import BLOCK
from pytest_mlperf.engines.torch.conv.stem import fold_weights
from pytest_mlperf.engines.torch.group_norm import normalize as normalize_groups
from pytest_mlperf.engines.torch.packing import BLOCK_QUERIES
from pytest_mlperf.engines.torch.packing import map_blocks
from pytest_mlperf.engines.torch.volumes.instance_norm import run_norm_relu
from pytest_mlperf.engines.torch.whisper.kernels import attend_one
from tests.support import plain_fp8

F = torch.nn.functional


def relative_error(actual: Any, expected: Any) -> float:
    """Return the relative error, in L2."""
    return float((actual.float() - expected).norm() / expected.norm())


def as_rows(pictures: Any) -> Any:
    """Return [batch, channels, height, width] as a row a pixel."""
    return pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])


def stem(height: int, width: int) -> float:
    """First convolution: 7x7, stride 2, on int8 pictures of odd and even sides."""
    pictures = torch.randint(-128, 128, (2, height, width, 3), dtype=torch.int8)
    weight, bias, factor = torch.randn(64, 3, 7, 7), torch.randn(64), 0.02
    low, scale = fold_weights(weight)
    exact = (weight / scale[:, None, None, None]).round() * scale[:, None, None, None]
    x = pictures.float().permute(0, 3, 1, 2)
    expected = F.conv2d(x, exact, bias, 2, 3).relu() * factor
    tall, broad = expected.shape[2:]
    blocks = 2 * (tall + 3) * (broad + 3)
    folded = torch.empty(blocks, BLOCK, dtype=torch.int8)
    kernels.fold_pixels[(-(-blocks // 256),)](
        pictures, folded, blocks, height, width, broad + 3, tall + 3, C=3, M=256
    )
    out = torch.empty(2 * tall * broad, 64, dtype=torch.float16)
    unit = float(scale.max())
    kernels.stem[(-(-len(out) // 128),)](
        folded, low, (scale / unit).half(), (bias * factor).half(), out, len(out),
        tall, broad, broad + 3, tall + 3, unit * factor, OUT=64, M=128, LIMIT=448.0,
    )  # fmt: skip
    return relative_error(out, as_rows(expected))


def tail(channels: int, stride: int) -> float:
    """End of a block: its sum with a shortcut, or with a projection of ``channels``."""
    size, in_channels, out_channels = 7, 64, 128
    width, count = size * stride, 2 * size * size

    def draw(*shape: int) -> Any:
        return torch.randn(*shape).half()

    x, weight = draw(count, in_channels), draw(out_channels, in_channels)
    bias = draw(out_channels)
    block_input = draw(2, width, width, channels)
    shortcut = block_input if channels else draw(count, out_channels)
    projection = draw(out_channels, channels) if channels else None
    out = torch.empty(count, out_channels, dtype=torch.float16)
    kernels.residual_tail[(-(-count // 64),)](
        x, weight, bias, shortcut, projection, out, count, width, width, size, size,
        0.1, 0.2, 3.0, IN=in_channels, OUT=out_channels, SHORTCUT=channels,
        STRIDE=stride, M=64, N=64,
    )  # fmt: skip
    added = shortcut.float()
    if projection is not None:
        added = added[:, ::stride, ::stride].reshape(count, channels)
        added = added @ projection.float().T
    expected = (x.float() @ weight.float().T) * 0.1 + added * 0.2 + bias.float()
    return relative_error(out, expected.relu() * 3)


def convolution(kernel: str) -> float:
    """3x3 from 64 channels to 64, whose last tile is not full."""
    x, weight = torch.randn(2, 9, 7, 64).half(), torch.randn(64, 3, 3, 64).half()
    bias, count = torch.randn(64).half(), 2 * 9 * 7
    out = torch.empty(count, 64, dtype=torch.float16)
    if kernel == "narrow":
        kernels.convolve_narrow[(2,)](
            x, weight, bias, out, count, 0.02, 3.0,
            HEIGHT=9, WIDTH=7, C=64, M=64, PROGRAMS=2,
        )  # fmt: skip
    else:
        kernels.convolve[(-(-count // 32),)](
            x, weight, bias, x, out, count, 64, 64, 9, 7, 9, 7, 0.02, 0.0, 3.0,
            KERNEL=3, STRIDE=1, ADD=False, RELU=True, M=32, N=64, K=64, GROUP=8,
        )  # fmt: skip
    turned = x.float().permute(0, 3, 1, 2), weight.float().permute(0, 3, 1, 2)
    expected = F.conv2d(*turned, padding=1) * 0.02 + bias.float()[:, None, None]
    return relative_error(out, as_rows(expected.relu() * 3))


def narrow_sum() -> float:
    """3x3 from 64 channels to 64 with a shortcut, as a basic block ends, in fp8: the
    median error, because the interpreter halves what is rounded up to a power of two.
    """

    def draw(*shape: int) -> Any:
        return torch.randn(*shape).to(torch.float8_e4m3fn)

    x, shortcut = (draw(2, 9, 7, 64).permute(0, 3, 1, 2) for _ in range(2))
    weight, bias = draw(64, 3, 3, 64), torch.randn(64).half()
    at = {"kernel": 3, "stride": 1, "relu": True, "dequantize": 0.02,
          "shortcut_dequantize": 2.0, "quantize": 3.0}  # fmt: skip
    found = fp8.make_operators()["Fp8Conv"](at, x, weight, bias, shortcut)
    expected = plain_fp8.convolve(at, x, weight, bias, shortcut)
    return float((found.float() - expected.float()).abs().median())


def pointwise(tile: Tile, *, add: bool = False, bias_last: bool = False) -> float:
    """1x1 from 64 channels to 128 over rows that no tile divides; nothing is left."""

    def draw(*shape: int) -> Any:
        return torch.randn(*shape).half()

    x, weight, bias = draw(2, 9, 7, 64), draw(128, 1, 1, 64), draw(128)
    shortcut = draw(2, 9, 7, 128) if add else None
    out = torch.full((2, 9, 7, 128), float("nan"), dtype=torch.float16)
    at = {"dequantize": 0.1, "shortcut_dequantize": 0.2, "quantize": 3.0}
    turned = [t if t is None else t.permute(0, 3, 1, 2) for t in (x, shortcut, out)]
    values = turned[0], weight, bias, turned[1]
    run_pointwise(at, values, turned[2], tile, bias_last=bias_last)
    expected = (x.float() @ weight.reshape(128, 64).float().T) * 0.1 + bias.float()
    if shortcut is not None:
        expected += shortcut.float() * 0.2
    return relative_error(out, expected.relu() * 3)


def mean() -> float:
    """Mean over 7x7 pixels."""
    x = torch.randn(2, 7, 7, 128).half()
    out = torch.empty(2, 128, dtype=torch.float16)
    kernels.average_pool[(2, 2)](x, out, 128, 0.5, PIXELS=49, P=64, C=64)
    return relative_error(out, x.float().mean((1, 2)) * 0.5)


def instance_norm(channels: int, side: int) -> float:
    """Normalization and ReLU with means far from 0, over blocks of which the last is
    not full.
    """
    x = torch.randn(2, channels, side, side, side) * 0.5 + 20
    x = x.half()
    weight, bias = torch.randn(channels).half(), torch.randn(channels).half()
    out = run_norm_relu(x, weight, bias, 1e-5)
    expected = F.instance_norm(
        x.float(), weight=weight.float(), bias=bias.float(), eps=1e-5
    )
    return relative_error(out, expected.relu())


def group_norm(channels: int, groups: int, side: int) -> float:
    """Groups of channels whose means differ, over blocks of which the last is not full;
    the picture's layout is another one.
    """
    norm = torch.nn.GroupNorm(groups, channels, eps=1e-5).half()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, channels, side, side + 2) + torch.arange(channels)[:, None, None]
    x = x.half()
    with torch.no_grad():
        found = normalize_groups(norm, x)
        expected = norm.float()(x.float())
    assert found.is_contiguous(memory_format=torch.channels_last)
    return relative_error(found, expected)


def cached_attention(length: int, valid: int) -> float:
    """One query of two heads to the first keys of a cache; what is behind them is not
    a number.
    """
    heads, size = 2, 16
    query = torch.randn(3, 3 * heads * size).half()
    cache = torch.randn(3, length, 2, heads, size).half()
    cache[:, valid:] = float("nan")
    out = torch.empty(3, heads * size, dtype=torch.float16)
    attend_one[(3, heads)](
        query, cache, out, torch.tensor([valid], dtype=torch.int32), query.stride(0),
        length, math.log2(math.e) / math.sqrt(size), WIDTH=heads * size, D=size, N=32,
    )  # fmt: skip
    key, value = cache[:, :valid].float().permute(2, 0, 3, 1, 4)
    rows = query[:, : heads * size].float().reshape(3, heads, 1, size)
    expected = F.scaled_dot_product_attention(rows, key, value)
    return relative_error(out, expected.reshape(out.shape))


def attention(head_size: int, block: int, *, is_scaled: bool = False) -> float:
    """Two heads over sequences of 40 and 5 tokens, which no block divides.

    ``is_scaled``: queries, keys and values are scaled, as in fp8.
    """
    lengths, heads = (40, 5), 2
    qkv = torch.randn(sum(lengths), 3, heads, head_size).half()
    undo = torch.tensor(0.25)
    blocks = torch.from_numpy(map_blocks(np.array(lengths)))
    out = torch.zeros(sum(lengths), heads, head_size, dtype=torch.float16)
    bert.attend[(heads, len(blocks))](
        (qkv / undo).half() if is_scaled else qkv, out, out, None, undo, blocks,
        math.log2(math.e) / math.sqrt(head_size), H=heads * head_size, D=head_size,
        BLOCK=block, M=BLOCK_QUERIES, N=32, FP8=False, QKV_FP8=is_scaled,
    )  # fmt: skip
    parts = [part.float().unbind(1) for part in qkv.split(lengths)]
    turned = [[x.transpose(0, 1) for x in part] for part in parts]
    expected = [F.scaled_dot_product_attention(*qkv) for qkv in turned]
    return relative_error(out, torch.cat([x.transpose(0, 1) for x in expected]))


def bias_sum(*, relu: bool) -> float:
    """A bias a channel, of a number of channels that divides no block."""
    x, bias = torch.randn(2, 5, 7, 22).half(), torch.randn(22).half()
    expected = x.float() + bias.float()
    expected = expected.relu() if relu else expected
    kernels.add_bias[(-(-x.numel() // 128),)](
        x, bias, x.numel(), 22, RELU=relu, BLOCK=128
    )
    return relative_error(x, expected)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(  # noqa: T201
        json.dumps(
            {
                "stem, even": stem(32, 36),
                "stem, odd": stem(31, 33),
                "tail, shortcut": tail(0, 1),
                "tail, product": tail(32, 1),
                "tail, product with stride": tail(32, 2),
                "convolve": convolution("convolve"),
                "narrow": convolution("narrow"),
                "narrow, sum": narrow_sum(),
                "1x1": pointwise(Tile(32, 64, 4, 2, 1)),
                "1x1, sum": pointwise(Tile(32, 64, 4, 2, 5), add=True),
                "1x1, sum as in a tail": pointwise(
                    Tile(32, 128, 4, 2, 1), add=True, bias_last=True
                ),
                "1x1, some channels at a time": pointwise(
                    Tile(32, 64, 4, 2, 3, depth=32)
                ),
                "1x1, sum, some channels at a time": pointwise(
                    Tile(32, 64, 4, 2, 3, depth=32), add=True
                ),
                "mean": mean(),
                "attention": attention(16, 16),
                "attention, heads of 24": attention(24, 32),
                "attention, scaled": attention(16, 16, is_scaled=True),
                "bias": bias_sum(relu=False),
                "bias, ReLU": bias_sum(relu=True),
                "instance norm": instance_norm(16, 8),
                "instance norm, two blocks": instance_norm(48, 14),
                "group norm": group_norm(16, 4, 8),
                "group norm, two blocks": group_norm(48, 3, 46),
                "cached attention": cached_attention(70, 33),
                "cached attention, all keys": cached_attention(64, 64),
            }
        )
    )
