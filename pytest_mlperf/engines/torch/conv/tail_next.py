"""A residual block's tail and the next block's first 1x1 as one kernel of CUDA C++."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch.conv import block
from pytest_mlperf.engines.torch.conv import fp8_rows
from pytest_mlperf.engines.torch.conv.fp8_rows import BLOCK
from pytest_mlperf.engines.torch.conv.row_kernel import RowKernel
from pytest_mlperf.engines.torch.conv.row_kernel import make_results
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

SOURCE = Path(__file__).with_name("tail_next.cu")
CHANNELS = ((128, 512, 128, 0), (128, 512, 0, 0), (128, 512, 0, 256))
"""Channels in, out, of the next product and of what is projected (or 0) that the kernel
has room for."""
SCALES = (
    "dequantize", "shortcut_dequantize", "quantize", "next_dequantize", "next_quantize",
)  # fmt: skip
KERNEL = RowKernel(SOURCE, "tail_next", SCALES)


def make_defines(
    channels: int,
    out_channels: int,
    next_channels: int = 0,
    *,
    source: int = 0,
    stride: int = 1,
    width: int = 1,
) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {
        "IN": channels,
        "OUT": out_channels,
        "NEXT": next_channels,
        # Of a thread's 128 registers in four groups, two tiles more are too many.
        "GROUPS": 3 if next_channels or source else 4,
        "AHEAD": 4,
        "SOURCE": source,
        "STRIDE": stride,
        "WIDTH": width,
    }


def count_shared_bytes(defines: dict[str, int]) -> int:
    """Return the bytes of a program, as tail_next.cu lays them out."""
    out = defines["OUT"]
    weights = out * (defines["IN"] + defines["NEXT"] + defines["SOURCE"])
    biases = (out + defines["NEXT"]) * 4
    each = BLOCK * defines["IN"] + defines["AHEAD"] * BLOCK * BLOCK
    return weights + biases + (0 if defines["SOURCE"] else defines["GROUPS"] * each)


def arrange_weights(
    tail_weight: Any, following: Any = None, projection: Any = None
) -> Any:
    """Return all weights as the kernel's shared memory has them: fp8 [bytes].

    ``tail_weight`` [out, 1, 1, in], ``following`` [next, 1, 1, out], ``projection``
    [out, 1, 1, source]: fp8.
    """
    import torch

    pairs = fp8_rows.order_pairs()
    halves = fp8_rows.make_columns(pairs)
    adjacent = fp8_rows.make_columns(fp8_rows.order_words())
    blocks = _cut_rows(tail_weight, halves, pairs)
    if following is not None:
        low = following.view(torch.uint8).flatten(1)
        blocks += [
            fp8_rows.cut_block(part, adjacent, pairs)
            for columns in low.split(BLOCK, 1)
            for part in columns.split(BLOCK)
        ]
    if projection is not None:
        blocks += _cut_rows(projection, halves, pairs)
    return torch.cat(blocks).view(torch.float8_e4m3fn)


def _cut_rows(weight: Any, columns: Any, channels: Any) -> list[Any]:
    """Return the blocks of a product, all channels of 64 columns after each other."""
    import torch

    return [
        fp8_rows.cut_block(part, columns, channels)
        for rows in weight.view(torch.uint8).flatten(1).split(BLOCK)
        for part in rows.split(BLOCK, 1)
    ]


def arrange_biases(tail_bias: Any, following: Any = None) -> Any:
    """Return the biases of both products in the order in which threads use them."""
    import torch

    words, pairs = fp8_rows.order_words().flatten(), fp8_rows.order_pairs().flatten()
    parts = [part[pairs] for part in tail_bias.split(BLOCK)]
    if following is not None:
        parts += [part[words] for part in following.split(BLOCK)]
    return torch.cat(parts)


def join_next(graph: OnnxGraph) -> OnnxGraph:
    """Return an fp8 graph with ``TailNext`` nodes where the kernel has room.

    A node's inputs are x, the shortcut, weights and biases as the kernel has them, and
    those of the tail and of the following 1x1 as they were.
    """
    users = graph.users()
    constants = dict(graph.constants)
    removed: set[int] = set()
    joined: dict[int, Node] = {}
    for node in graph.nodes:
        if node.kind != "ResidualTail":
            continue
        x, weight, bias, shortcut, projection = node.inputs
        out_channels, _, _, channels = constants[weight].shape
        source = constants[projection].shape[-1] if projection else 0
        after = block.find_following(node, users, constants)
        width = 0 if after is None else len(constants[after.inputs[1]])
        if (channels, out_channels, width, source) not in CHANNELS:
            after, width = None, 0
        if (channels, out_channels, width, source) not in CHANNELS:
            continue
        at, outputs, following = dict(node.attributes), node.outputs, ("", "")
        if after is not None:
            at |= {f"next_{n}": after.attributes[n] for n in block.PART_SCALES}
            outputs = (*outputs, *after.outputs)
            following = (after.inputs[1], after.inputs[2])
            removed.add(id(after))
        names = (weight, following[0], projection), (bias, following[1])
        parts = [[constants.get(name) for name in part] for part in names]
        out = node.outputs[0]
        constants[f"{out}/weights"] = arrange_weights(*parts[0])
        constants[f"{out}/biases"] = arrange_biases(*parts[1])
        arranged = (f"{out}/weights", f"{out}/biases")
        inputs = (x, shortcut, *arranged, weight, bias, projection, *following)
        joined[id(node)] = Node("TailNext", node.name, inputs, outputs, at)
    nodes = [joined.get(id(n), n) for n in graph.nodes if id(n) not in removed]
    return OnnxGraph(nodes, constants, graph.inputs, graph.outputs)


def run_tail_next(
    at: Mapping[str, Any],
    x: Any,
    shortcut: Any,
    weights: Any,
    biases: Any,
    next_channels: int,
) -> tuple[Any, ...]:
    """Return the block's result, and the next one's first product if there is one.

    ``x`` and ``shortcut`` fp8 [batch, channels, height, width], channels last; a
    shortcut of fewer channels than the result, or larger pictures, is projected.
    """
    batch, channels, height, width = x.shape
    source, stride = shortcut.shape[1], at["stride"]
    out_channels = len(biases) - next_channels
    is_projected = source != out_channels or stride > 1
    defines = make_defines(
        channels,
        out_channels,
        next_channels,
        source=source if is_projected else 0,
        stride=stride,
        width=width if is_projected else 1,
    )
    results = make_results(x, (height, width), out_channels, next_channels)
    tensors, shared = (
        (x, weights, biases, shortcut, *results),
        count_shared_bytes(defines),
    )
    KERNEL.launch(at, defines, shared, tensors, batch * height * width)
    return tuple(results) if next_channels else (results[0],)


def run_apart(parts: Mapping[str, Any], at: Mapping[str, Any], *inputs: Any) -> Any:
    """Return what the kernel does, by ``Fp8Conv`` and ``ResidualTail`` of ``parts``.

    ``inputs`` are those of a ``TailNext``.
    """
    x, shortcut, _, _, weight, bias, projection, next_weight, next_bias = inputs
    out = parts["ResidualTail"](at, x, weight, bias, shortcut, projection)
    if next_weight is None:
        return (out,)
    after = block.part_of(at, "next")
    return out, parts["Fp8Conv"](after, out, next_weight, next_bias)


def make_operators(parts: Mapping[str, Any], choice: KernelChoice) -> dict[str, Any]:
    """Return ``TailNext``; values are as ``tail.make_operators`` says.

    ``parts`` are ``Fp8Conv`` and ``ResidualTail``, for pictures that the kernel does
    not take: projected ones of odd sides.
    """

    def tail_next(at: Any, *inputs: Any) -> Any:
        x, shortcut, weights, biases = inputs[:4]
        sides = [at["stride"] * side for side in x.shape[2:]]
        if not x.is_cuda or list(shortcut.shape[2:]) != sides:
            return run_apart(parts, at, *inputs)
        channels = 0 if inputs[7] is None else len(inputs[7])
        return choice.run(
            lambda: run_tail_next(at, x, shortcut, weights, biases, channels),
            lambda: run_apart(parts, at, *inputs),
        )

    return {"TailNext": tail_next}
