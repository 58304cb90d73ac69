"""The persistent kernels of 1x1 convolutions against the other ones, on a real GPU.

Skipped without one. There: ``pytest tests/gpu/test_pointwise.py -p no:cacheprovider``;
on a CPU with ``TRITON_INTERPRET=1`` before it and ``-W ignore`` behind.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from pytest_mlperf.engines.torch.conv import fp8
from pytest_mlperf.engines.torch.conv import tail
from pytest_mlperf.engines.torch.conv.pointwise import launch
from pytest_mlperf.engines.torch.provider import TORCH

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MISSING = None if IS_INTERPRETED else TORCH.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
SHAPES = (
    *((64, 256, True), (128, 512, True), (256, 1024, True), (512, 2048, True)),
    *((64, 64, False), (256, 128, False), (512, 128, False), (1024, 256, False)),
)
"""(channels in, channels out, whether a shortcut is added)."""


@pytest.mark.parametrize("side", [1, 7, 13])
@pytest.mark.parametrize(("in_channels", "out_channels", "add"), SHAPES)
def test_persistent_kernels_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    in_channels: int,
    out_channels: int,
    add: bool,
    side: int,
) -> None:
    """Of three pictures, whose rows no tile divides."""
    import torch

    device = torch.device("cpu" if IS_INTERPRETED else "cuda")
    if not IS_INTERPRETED and not launch.is_available(device):
        pytest.skip("no TMA: the other kernels run")
    draw = torch.Generator().manual_seed(side)

    def make(*shape: int, dtype: Any = torch.float8_e4m3fn) -> Any:
        return torch.randn(*shape, generator=draw).to(dtype).to(device)

    x = make(3, side, side, in_channels).permute(0, 3, 1, 2)
    weight = make(out_channels, 1, 1, in_channels)
    bias = make(out_channels, dtype=torch.float16)
    shortcut = make(3, side, side, out_channels).permute(0, 3, 1, 2) if add else None
    at = {
        "kernel": 1, "stride": 1, "relu": True, "dequantize": 1 / in_channels,
        "shortcut_dequantize": 0.5, "quantize": 20.0,
    }  # fmt: skip
    outs = []
    for is_available in (True, False):
        monkeypatch.setattr(launch, "is_available", lambda _, way=is_available: way)
        outs.append(fp8.make_operators()["Fp8Conv"](at, x, weight, bias, shortcut))
        if add and in_channels <= tail.MAX_CHANNELS:
            run = tail.make_operators()["ResidualTail"]
            outs[-1] = run(at, x, weight, bias, shortcut, None)

    assert outs[0].shape == (3, out_channels, side, side)
    assert torch.equal(*(out.view(torch.uint8) for out in outs))
    assert 0 < outs[0].float().mean() < fp8.FP8_MAX
