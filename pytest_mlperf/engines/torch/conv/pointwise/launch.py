"""1x1 convolutions in fp8 by persistent kernels, where TMA moves tiles (Hopper).

Results are bit for bit those of ``convolve`` and ``residual_tail``, which run where
these kernels do not fit or were slower.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

HOPPER = 9
"""The compute capability's first number for which the tiles below were chosen."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What a program computes at a time, and how many of them there are."""

    rows: int
    columns: int
    warps: int
    stages: int
    programs: int
    """On a multiprocessor."""
    depth: int = 0
    """Channels at a time; 0: all."""
    registers: int | None = None
    """Of a thread, at most, so that so many programs fit."""


def choose_tile(in_channels: int, out_channels: int, *, add: bool) -> Tile | None:
    """Return a tile, or None where ``convolve`` is as fast; timed on an H200."""
    few = in_channels in (64, 128, 256)
    if add:
        if in_channels in (64, 128) and out_channels % 256 == 0:
            return Tile(64, 256, warps=8, stages=3, programs=2, registers=128)
        if in_channels == 256 and out_channels % 128 == 0:
            return Tile(64, 128, warps=4, stages=3, programs=2)
        fits = in_channels == 512 and out_channels % 128 == 0
        return Tile(128, 128, 8, stages=3, programs=2, depth=128) if fits else None
    if few and out_channels in (64, 128):
        return Tile(64, 64, warps=4, stages=5, programs=2)
    if in_channels == 512 and out_channels in (128, 256):
        return Tile(64, 128, warps=4, stages=4, programs=1)
    if in_channels >= 1024 and in_channels % 128 == 0 and out_channels % 128 == 0:
        return Tile(128, 128, warps=4, stages=3, programs=2, depth=128)
    return None


@cache
def is_available(device: Any) -> bool:
    """Tell whether a device has TMA, and the installed Triton its descriptors."""
    import torch

    if device.type != "cuda":
        return False
    major, _ = torch.cuda.get_device_capability(device)
    module = "triton.tools.tensor_descriptor"
    return major == HOPPER and importlib.util.find_spec(module) is not None


def count_processors(device: Any) -> int:
    """Return how many multiprocessors a device has; 1 of a CPU, for the interpreter."""
    import torch

    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def run_pointwise(
    at: Mapping[str, Any],
    values: tuple[Any, Any, Any, Any],
    out: Any,
    tile: Tile,
    *,
    bias_last: bool = False,
) -> None:
    """Fill ``out`` with ``relu(x weight + bias + shortcut)``, scaled.

    ``values``: x, weight [out channels, 1, 1, in channels], bias, and the shortcut or
    None; x, shortcut and ``out`` [batch, channels, height, width], channels last.
    """
    from triton.tools.tensor_descriptor import TensorDescriptor

    from pytest_mlperf.engines.torch.conv.pointwise import kernels

    x, weight, bias, shortcut = values
    out_channels, in_channels = weight.shape[0], weight.shape[-1]
    depth, columns = tile.depth or in_channels, out_channels // tile.columns

    def describe(tensor: Any, *block: int) -> Any:
        return TensorDescriptor.from_tensor(tensor, list(block))

    rows = _flatten(x)
    into = describe(_flatten(out), tile.rows, tile.columns)
    descriptors = (
        describe(rows, tile.rows, depth),
        describe(weight.reshape(out_channels, in_channels), tile.columns, depth),
    )
    room = count_processors(x.device) * tile.programs
    programs = max(columns, room // columns * columns)
    options = {
        "OUT": out_channels, "ADD": shortcut is not None, "M": tile.rows,
        "N": tile.columns, "PROGRAMS": programs, "num_warps": tile.warps,
        "num_stages": tile.stages, "maxnreg": tile.registers,
    }  # fmt: skip
    scales = at["dequantize"], at["shortcut_dequantize"], at["quantize"]
    if tile.depth:
        kernels.stream_tiles[(programs,)](
            *descriptors, bias, x if shortcut is None else shortcut, into, len(rows),
            *scales, IN=in_channels, K=tile.depth, FLATTEN=shortcut is None, **options,
        )  # fmt: skip
        return
    added = into
    if shortcut is not None:
        added = describe(_flatten(shortcut), tile.rows, tile.columns)
    kernels.stream_rows[(programs,)](
        *descriptors, bias, added, into, len(rows), *scales, BIAS_LAST=bias_last,
        STAGES=tile.stages, **options,
    )  # fmt: skip


def _flatten(pictures: Any) -> Any:
    """Return [batch, channels, height, width], channels last, as a row a pixel."""
    return pictures.permute(0, 2, 3, 1).reshape(-1, pictures.shape[1])
