"""The first convolution of an fp8 net and its pooling as one kernel of CUDA C++.

Where it does not fit or cannot be compiled, the two Triton kernels run instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch import cuda_source

SOURCE = Path(__file__).with_name("stem_pool.cu")
STRIP = 14
"""Rows of the result that a program makes: of more, fewer are computed twice."""
PROGRAMS = 2
"""On a multiprocessor at a time: one computes while another reads its pictures."""
_BLOCK, _CHANNELS, _ROW_PITCH = 16, 32, 48


def fits(height: int, width: int, out_channels: int) -> bool:
    """Tell whether the kernel takes pictures of a size."""
    return (
        height % 4 == 0
        and width % 32 == 0
        and width <= 512
        and out_channels % _CHANNELS == 0
    )


def make_defines(height: int, width: int, out_channels: int) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "OUT": out_channels,
        "STRIP": STRIP,
        "PROGRAMS": PROGRAMS,
    }


def count_shared_bytes(width: int) -> int:
    """Return the bytes of a program: the blocks of its strip, two rows of numbers."""
    columns = width // 2
    lines = (2 * STRIP + 4) * (columns + 4) * _BLOCK
    return lines + 2 * columns * _ROW_PITCH


def run_stem_pool(
    pictures: Any, weight: Any, scale: Any, bias: Any, unit: float, out: Any
) -> None:
    """Fill ``out``, fp8 [batch, channels, height / 4, width / 4], channels last.

    ``pictures`` int8 [batch, height, width, 3]; ``weight`` int8 [channels, 4, 64] as
    ``stem.fold_weights`` returns it; ``scale`` and ``bias`` float16 [channels].
    """
    batch, height, width, _ = pictures.shape
    out_channels = len(weight)
    pointer, number = cuda_source.POINTER, cuda_source.FLOAT
    kernel = cuda_source.load_kernel(
        SOURCE,
        "stem_pool",
        tuple(make_defines(height, width, out_channels).items()),
        (pointer, pointer, pointer, pointer, pointer, number),
        count_shared_bytes(width),
        pictures.device.index or 0,
    )
    grid = (out_channels // _CHANNELS, -(-height // 4 // STRIP), batch)
    kernel.launch(grid, width, pictures, weight, scale, bias, out, unit)
