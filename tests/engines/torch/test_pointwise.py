"""The persistent kernels of 1x1 convolutions, as compiled for Hopper; no device."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_mlperf.engines.torch.conv import fp8
from pytest_mlperf.engines.torch.conv.pointwise.launch import Tile
from pytest_mlperf.engines.torch.conv.pointwise.launch import choose_tile
from pytest_mlperf.engines.torch.conv.pointwise.launch import is_available

SHARED = 227 << 10
"""Bytes of shared memory that programs have on one of Hopper's multiprocessors."""
RESNET50 = (
    *((64, 256, True), (128, 512, True), (256, 1024, True), (512, 2048, True)),
    *((64, 64, False), (256, 64, False), (256, 128, False), (512, 128, False)),
    *((512, 256, False), (1024, 256, False), (1024, 512, False), (2048, 512, False)),
)
"""(channels in, channels out, whether a shortcut is added)."""


def compile_tile(tile: Tile, in_channels: int, out_channels: int, add: bool) -> Any:
    """Return the kernel that ``run_pointwise`` launches, compiled for Hopper."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    from pytest_mlperf.engines.torch.conv.pointwise import kernels

    m, n, depth = tile.rows, tile.columns, tile.depth or in_channels
    constants = {"OUT": out_channels, "ADD": add, "M": m, "N": n}
    columns = out_channels // n
    constants["PROGRAMS"] = 132 * tile.programs // columns * columns
    if tile.depth:
        kernel = kernels.stream_tiles
        constants |= {"IN": in_channels, "K": depth, "FLATTEN": not add}
    else:
        kernel = kernels.stream_rows
        constants |= {"BIAS_LAST": False, "STAGES": tile.stages}
    types = {
        "x": f"tensordesc<fp8e4nv[{m}, {depth}]>",
        "weight": f"tensordesc<fp8e4nv[{n}, {depth}]>",
        "shortcut": "*fp8e4nv" if tile.depth else f"tensordesc<fp8e4nv[{m}, {n}]>",
        "out": f"tensordesc<fp8e4nv[{m}, {n}]>",
        "bias": "*fp16",
        "rows": "i32",
    }
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else types.get(name, "fp32")
        for name in names
    }
    places = {(names.index(name),): value for name, value in constants.items()}
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    options["enable_fp_fusion"] = True  # as load_model asks for
    if tile.registers:
        options["maxnreg"] = tile.registers
    source = ASTSource(kernel, signature, places)
    return compile_kernel(source, GPUTarget("cuda", 90, 32), options)


@pytest.mark.parametrize(("in_channels", "out_channels", "add"), RESNET50)
def test_as_many_programs_fit_as_a_tile_says(
    in_channels: int, out_channels: int, add: bool
) -> None:
    """TMA reads and writes, and programs of one wave have the shared memory."""
    pytest.importorskip("triton")
    tile = choose_tile(in_channels, out_channels, add=add)
    assert tile is not None
    made = compile_tile(tile, in_channels, out_channels, add)

    assert "cp.async.bulk.tensor.2d.shared" in made.asm["ptx"]
    assert "cp.async.bulk.tensor.2d.global" in made.asm["ptx"]
    assert (made.metadata.shared + 1024) * tile.programs <= SHARED + 1024


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "add"),
    [(1024, 4096, True), (192, 64, False), (64, 192, True), (1088, 256, False)],
)
def test_other_shapes_are_left_to_the_other_kernels(
    in_channels: int, out_channels: int, add: bool
) -> None:
    """Not timed, or a tile would have a part of the columns."""
    assert choose_tile(in_channels, out_channels, add=add) is None


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("add", [False, True])
def test_tiles_divide_the_channels_of_any_wide_convolution(
    kernel: int, add: bool
) -> None:
    """Channels are multiples of 64; a tile beyond the last would be left out."""
    widths = range(fp8.WIDE, 1025, fp8.WIDE)
    tiles = [
        (into, out, fp8.choose_tile(into, out, kernel, add=add))
        for into in widths
        for out in widths
    ]

    assert [t for t in tiles if t[1] % t[2]["N"] or t[0] % t[2]["K"]] == []


def test_a_cpu_has_no_tma() -> None:
    """There the other kernels run, in Triton's interpreter."""
    torch = pytest.importorskip("torch")

    assert not is_available(torch.device("cpu"))
