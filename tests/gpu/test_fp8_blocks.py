"""Kernels of CUDA C++ for several convolutions of a block, against Triton's one by one.

Skipped without a GPU of compute capability 9.0. There:
``pytest tests/gpu/test_fp8_blocks.py -p no:cacheprovider``.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlperf.engines.torch.provider import TORCH

MISSING = TORCH.unavailable()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

if MISSING is None:
    import torch

    from pytest_mlperf.engines.torch.conv import block
    from pytest_mlperf.engines.torch.conv import fp8
    from pytest_mlperf.engines.torch.conv import joined
    from pytest_mlperf.engines.torch.conv import resident
    from pytest_mlperf.engines.torch.conv import tail
    from pytest_mlperf.engines.torch.conv import tail_next
    from pytest_mlperf.engines.torch.kernel_options import KernelChoice

    if (reason := joined.find_missing()) is not None:
        pytest.skip(reason, allow_module_level=True)


def draw_fp8(*shape: int) -> Any:
    return (torch.randn(*shape, device="cuda") * 40).to(torch.float8_e4m3fn)


def draw_picture(batch: int, side: int, channels: int) -> Any:
    picture = torch.randn(batch, side, side, channels, device="cuda") * 40
    return picture.relu().to(torch.float8_e4m3fn).permute(0, 3, 1, 2)


def draw_bias(channels: int) -> Any:
    return torch.randn(channels, device="cuda").half()


def check_bits(kernels: Any, at: dict[str, float], inputs: tuple[Any, ...]) -> None:
    """Compare a kernel with its parts: all fp8 numbers have the same bits."""
    parts = fp8.make_operators() | tail.make_operators()
    ((_, operator),) = kernels.make_operators(parts, KernelChoice("blocks")).items()
    one = operator(at, *inputs)
    apart = kernels.run_apart(parts, at, *inputs)
    if not isinstance(one, tuple):
        one, apart = (one,), (apart,)

    assert len(one) == len(apart)
    for here, there in zip(one, apart, strict=True):
        assert torch.equal(here.view(torch.uint8), there.view(torch.uint8))
        assert 0 < here.float().mean() < 448


def arrange(kernels: Any, weights: list[Any], biases: list[Any]) -> tuple[Any, Any]:
    """Return both as the kernel takes them, on the device."""
    on_cpu = [[v if v is None else v.cpu() for v in x] for x in (weights, biases)]
    low, shifts = (
        kernels.arrange_weights(*on_cpu[0]),
        kernels.arrange_biases(*on_cpu[1]),
    )
    return low.cuda(), shifts.cuda()


@pytest.mark.parametrize("batch", [1, 37])
@pytest.mark.parametrize("following", [0, 64, 128])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_block_is_its_convolutions(
    batch: int, following: int, is_first: bool
) -> None:
    """With the block's input as shortcut, and with a projection and a first product."""
    torch.manual_seed(batch)
    scales = (2e-5, 40.0, 4e-4, 3e-4 if is_first else 0.02, 50.0, 1e-4, 70.0)
    at = dict(zip(block.SCALES, (*scales, 2e-4, 60.0), strict=True)) | {"stride": 1}
    shortcut = draw_picture(batch, 56, 64 if is_first else 256)
    x = None if is_first else draw_picture(batch, 56, 64)
    conv, tail_weight = draw_fp8(64, 3, 3, 64), draw_fp8(256, 1, 1, 64)
    after = draw_fp8(following, 1, 1, 256) if following else None
    projection = draw_fp8(256, 1, 1, 64) if is_first else None
    first = draw_fp8(64, 1, 1, 64) if is_first else None
    biases = [draw_bias(64), draw_bias(256)]
    biases.append(draw_bias(following) if following else None)
    biases.append(draw_bias(64) if is_first else None)
    weights = [conv, tail_weight, after, projection, first]
    inputs = (
        x, shortcut, *arrange(block, weights, biases), conv, biases[0], tail_weight,
        biases[1], projection, after, biases[2], first, biases[3],
    )  # fmt: skip

    check_bits(block, at, inputs)


@pytest.mark.parametrize("batch", [1, 37])
@pytest.mark.parametrize(("following", "source"), [(0, 0), (128, 0), (0, 256)])
def test_a_tail_and_what_follows_are_two_products(
    batch: int, following: int, source: int
) -> None:
    """With the block's input as shortcut, or a projection of every other pixel."""
    torch.manual_seed(batch)
    scales = (1e-4, 1e-4 if source else 0.02, 50.0, 1e-4, 40.0)
    at = dict(zip(tail_next.SCALES, scales, strict=True))
    at["stride"] = 2 if source else 1
    x = draw_picture(batch, 28, 128)
    shortcut = draw_picture(batch, 56 if source else 28, source or 512)
    weight, bias = draw_fp8(512, 1, 1, 128), draw_bias(512)
    projection = draw_fp8(512, 1, 1, source) if source else None
    after = draw_fp8(following, 1, 1, 512) if following else None
    shift = draw_bias(following) if following else None
    both = arrange(tail_next, [weight, after, projection], [bias, shift])
    inputs = (x, shortcut, *both, weight, bias, projection, after, shift)

    check_bits(tail_next, at, inputs)


@pytest.mark.parametrize(("batch", "side"), [(1, 28), (37, 28), (5, 9)])
def test_a_convolution_that_keeps_its_weights_is_one(batch: int, side: int) -> None:
    """Tiles hold parts of several pictures, and the last one is not full."""
    torch.manual_seed(batch)
    weight, bias = draw_fp8(128, 3, 3, 128), draw_bias(128)
    at = {"dequantize": 2e-5, "quantize": 50.0, "shortcut_dequantize": 0.0}
    at |= {"kernel": 3, "stride": 1, "relu": True}
    both = arrange(resident, [weight], [bias])

    check_bits(resident, at, (draw_picture(batch, side, 128), *both, weight, bias))
