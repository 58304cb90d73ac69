"""Run the convolution kernels in Triton's interpreter; print each one's error as JSON.

A process of its own: Triton decides at import whether it interprets. Everything is
float16, because the interpreter cuts fp8 off where a device rounds it.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from pytest_mlperf.engines.torch.conv import kernels as kernels
from pytest_mlperf.engines.torch.conv import stem as stem_module
from pytest_mlperf.engines.torch.conv import tail_kernels
from pytest_mlperf.engines.torch.conv.stem import BLOCK

F = torch.nn.functional


def distance(found: Any, wanted: Any) -> float:
    """Return the relative error, in L2."""
    return float((found.float() - wanted).norm() / wanted.norm())


def rows(pictures: Any) -> Any:
    """Return [batch, channels, height, width] as a row a pixel."""
    return pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])


def stem(height: int, width: int) -> float:
    """First convolution: 7x7, stride 2, on int8 pictures of odd and even sides."""
    pictures = torch.randint(-128, 128, (2, height, width, 3), dtype=torch.int8)
    weight, bias, factor = torch.randn(64, 3, 7, 7), torch.randn(64), 0.02
    low, scale = stem_module.as_blocks(weight)
    exact = (weight / scale[:, None, None, None]).round() * scale[:, None, None, None]
    x = pictures.float().permute(0, 3, 1, 2)
    wanted = F.conv2d(x, exact, bias, 2, 3).relu() * factor
    tall, broad = wanted.shape[2:]
    blocks = 2 * (tall + 3) * (broad + 3)
    folded = torch.empty(blocks, BLOCK, dtype=torch.int8)
    kernels.fold[(-(-blocks // 256),)](
        pictures, folded, blocks, height, width, broad + 3, tall + 3, C=3, M=256
    )
    out = torch.empty(2 * tall * broad, 64, dtype=torch.float16)
    unit = float(scale.max())
    kernels.begin[(-(-len(out) // 128),)](
        folded, low, (scale / unit).half(), (bias * factor).half(), out, len(out),
        tall, broad, broad + 3, tall + 3, unit * factor, COLUMNS=64, M=128, LIMIT=448.0,
    )  # fmt: skip
    return distance(out, rows(wanted))


def tail(side: int, stride: int) -> float:
    """End of a block: its sum with a shortcut, or with its product."""
    place, deep, wide = 7, 64, 128
    broad, count = place * stride, 2 * place * place

    def draw(*shape: int) -> Any:
        return torch.randn(*shape).half()

    x, weight, bias = draw(count, deep), draw(wide, deep), draw(wide)
    given = draw(2, broad, broad, side) if side else draw(count, wide)
    side_weight = draw(wide, side) if side else None
    out = torch.empty(count, wide, dtype=torch.float16)
    tail_kernels.tail[(-(-count // 64),)](
        x, weight, bias, given, side_weight, out, count, broad, broad, place, place,
        0.1, 0.2, 3.0, DEEP=deep, WIDE=wide, SIDE=side, STRIDE=stride, M=64, N=64,
    )  # fmt: skip
    shortcut = given.float()
    if side_weight is not None:
        picked = shortcut[:, ::stride, ::stride].reshape(count, side)
        shortcut = picked @ side_weight.float().T
    wanted = (x.float() @ weight.float().T) * 0.1 + shortcut * 0.2 + bias.float()
    return distance(out, wanted.relu() * 3)


def convolution(kernel: str) -> float:
    """3x3 from 64 channels to 64, whose last tile is not full."""
    x, weight = torch.randn(2, 9, 7, 64).half(), torch.randn(64, 3, 3, 64).half()
    bias, count = torch.randn(64).half(), 2 * 9 * 7
    out = torch.empty(count, 64, dtype=torch.float16)
    if kernel == "narrow":
        kernels.narrow[(2,)](
            x, weight, bias, out, count, 0.02, 3.0,
            HEIGHT=9, WIDTH=7, C=64, M=64, PROGRAMS=2,
        )  # fmt: skip
    else:
        kernels.convolve[(-(-count // 32),)](
            x, weight, bias, x, out, count, 64, 64, 9, 7, 9, 7, 0.02, 0.0, 3.0,
            SIDE=3, STRIDE=1, ADD=False, RELU=True, M=32, N=64, K=64, GROUP=8,
        )  # fmt: skip
    turned = x.float().permute(0, 3, 1, 2), weight.float().permute(0, 3, 1, 2)
    wanted = F.conv2d(*turned, padding=1) * 0.02 + bias.float()[:, None, None]
    return distance(out, rows(wanted.relu() * 3))


def mean() -> float:
    """Mean over 7x7 pixels."""
    x = torch.randn(2, 7, 7, 128).half()
    out = torch.empty(2, 128, dtype=torch.float16)
    kernels.average[(2, 2)](x, out, 128, 0.5, PIXELS=49, P=64, C=64)
    return distance(out, x.float().mean((1, 2)) * 0.5)


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
                "mean": mean(),
            }
        )
    )
