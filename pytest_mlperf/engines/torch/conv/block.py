"""A narrow residual block from its 3x3 convolution on as one kernel of CUDA C++."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mlperf.engines.torch.conv import fp8_rows
from pytest_mlperf.engines.torch.conv.fp8_rows import BLOCK
from pytest_mlperf.engines.torch.conv.row_kernel import RowKernel
from pytest_mlperf.engines.torch.conv.row_kernel import make_results
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

SOURCE = Path(__file__).with_name("block.cu")
CHANNELS, OUT = 64, 256
"""Of the 3x3 convolution, in and out, and of the block's result."""
PART_SCALES = ("dequantize", "quantize")
NEXT = (64, 128)
"""Channels that the next block's first product may make in the same kernel."""
SCALES = (
    "conv_dequantize", "conv_quantize", "dequantize", "shortcut_dequantize", "quantize",
    "next_dequantize", "next_quantize", "first_dequantize", "first_quantize",
)  # fmt: skip
KERNEL = RowKernel(SOURCE, "residual_block", SCALES)


def make_defines(
    height: int,
    width: int,
    next_channels: int,
    *,
    projection: bool = False,
    first: bool = False,
) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "NEXT": next_channels,
        "PROJECTION": int(projection),
        "FIRST": int(first),
        # Of a thread's 128 registers in four groups, 64 channels more are too many.
        "GROUPS": 3 if next_channels > BLOCK or projection else 4,
    }


def count_shared_bytes(defines: dict[str, int]) -> int:
    """Return the bytes of a program, as block.cu lays them out."""
    halves, projection = defines["NEXT"] // BLOCK, defines["PROJECTION"]
    first = defines["FIRST"]
    weights = (9 + 4 + 4 * halves + 4 * projection + first) * BLOCK * BLOCK
    biases = (CHANNELS + OUT + defines["NEXT"] + CHANNELS * first) * 4
    line = 4 * (defines["WIDTH"] + 2) * 16
    stage = 0 if projection else 128 * 128
    return weights + biases + line + 2 * 128 + defines["GROUPS"] * (4 * line + stage)


def arrange_weights(
    conv: Any,
    tail: Any,
    following: Any = None,
    projection: Any = None,
    first: Any = None,
) -> Any:
    """Return all weights as the kernel's shared memory has them: fp8 [bytes].

    ``conv`` [64, 3, 3, 64], ``tail`` [256, 1, 1, 64], ``following`` [64 or 128, 1, 1,
    256], ``projection`` [256, 1, 1, 64], ``first`` [64, 1, 1, 64]: fp8, output
    channels first.
    """
    import torch

    def cut(weight: Any, columns: Any, channels: Any) -> None:
        blocks.append(fp8_rows.cut_block(weight, columns, channels))

    totals, pairs = fp8_rows.order_totals(), fp8_rows.order_pairs()
    halves = fp8_rows.make_columns(pairs)
    plain, adjacent = (
        torch.arange(BLOCK),
        fp8_rows.make_columns(fp8_rows.order_words()),
    )
    blocks: list[Any] = []
    for tap in conv.view(torch.uint8).flatten(1, 2).unbind(1):
        cut(tap, plain, plain)
    for part in tail.view(torch.uint8).flatten(1).split(BLOCK):
        cut(part, halves, totals)
    if following is not None:
        for columns in following.view(torch.uint8).flatten(1).split(BLOCK, 1):
            for part in columns.split(BLOCK):
                cut(part, adjacent, pairs)
    for weight, columns in ((projection, halves), (first, adjacent)):
        if weight is not None:
            for part in weight.view(torch.uint8).flatten(1).split(BLOCK):
                cut(part, columns, pairs)
    return torch.cat(blocks).view(torch.float8_e4m3fn)


def arrange_biases(
    conv: Any, tail: Any, following: Any = None, first: Any = None
) -> Any:
    """Return the biases of all products in the order in which threads use them."""
    import torch

    words, pairs = fp8_rows.order_words().flatten(), fp8_rows.order_pairs().flatten()
    parts = [conv[fp8_rows.order_totals().flatten()]]
    parts += [part[pairs] for part in tail.split(BLOCK)]
    if following is not None:
        parts += [part[words] for part in following.split(BLOCK)]
    if first is not None:
        parts.append(first[words])
    return torch.cat(parts)


def join_blocks(graph: OnnxGraph) -> OnnxGraph:
    """Return an fp8 graph with ``ResidualBlock`` nodes where the kernel's channels are.

    A block's inputs are x, the shortcut, the weights and biases as the kernel has them,
    and those of its parts for the kernels that take any picture: 3x3, tail, projection
    and following 1x1 (empty names for the last two where there are none).
    """
    users, makers = graph.users(), graph.makers()
    constants = dict(graph.constants)
    removed: set[int] = set()
    blocks: dict[int, Node] = {}
    for node in graph.nodes:
        conv = makers.get(node.inputs[0]) if node.inputs else None
        if conv is None or not _is_narrow(conv, node, users, constants):
            continue
        parts: dict[str, Node | None] = {
            "conv": conv,
            "next": find_following(node, users, constants),
            "first": _find_first(makers.get(conv.inputs[0]), node, users, constants),
        }
        removed |= {id(part) for part in parts.values() if part is not None}
        x = "" if parts["first"] else conv.inputs[0]
        blocks[id(node)] = _join_block(node, x, parts, constants)
    nodes = [blocks.get(id(n), n) for n in graph.nodes if id(n) not in removed]
    return OnnxGraph(nodes, constants, graph.inputs, graph.outputs)


def _join_block(
    end: Node, x: str, parts: Mapping[str, Node | None], constants: dict[str, Any]
) -> Node:
    """Return the node of a tail and its parts; add the kernel's weights and biases."""
    at, names = dict(end.attributes), {}
    for part, node in parts.items():
        names[part] = ("", "") if node is None else node.inputs[1:3]
        if node is not None:
            at |= {f"{part}_{n}": node.attributes[n] for n in PART_SCALES}
    _, weight, bias, shortcut, projection = end.inputs
    out = end.outputs[0]
    conv, following, first = (names[part] for part in ("conv", "next", "first"))
    weights = (conv[0], weight, following[0], projection, first[0])
    biases = (conv[1], bias, following[1], first[1])
    constants[f"{out}/weights"] = arrange_weights(*(constants.get(n) for n in weights))
    constants[f"{out}/biases"] = arrange_biases(*(constants.get(n) for n in biases))
    inputs = (
        x, shortcut, f"{out}/weights", f"{out}/biases", *conv, weight, bias, projection,
        *following, *first,
    )  # fmt: skip
    after = parts["next"]
    outputs = end.outputs if after is None else (*end.outputs, *after.outputs)
    return Node("ResidualBlock", end.name, inputs, outputs, at)


def _is_narrow(
    conv: Node, node: Node, users: dict[str, list[Node]], constants: dict[str, Any]
) -> bool:
    """Tell whether two nodes are a 3x3 convolution and the tail that it is for."""
    if (conv.kind, node.kind) != ("Fp8Conv", "ResidualTail"):
        return False
    projection = node.inputs[4]
    square = [CHANNELS, 3, 3, CHANNELS]
    return (
        list(constants[conv.inputs[1]].shape) == square
        and len(conv.inputs) == 3
        and conv.attributes["stride"] == node.attributes["stride"] == 1
        and bool(conv.attributes["relu"])
        and len(users[conv.outputs[0]]) == 1
        and list(constants[node.inputs[1]].shape) == [OUT, 1, 1, CHANNELS]
        and (not projection or constants[projection].shape[-1] == CHANNELS)
    )


def _find_first(
    node: Node | None,
    end: Node,
    users: dict[str, list[Node]],
    constants: dict[str, Any],
) -> Node | None:
    """Return the 1x1 convolution before the 3x3 one if it reads what is projected."""
    if node is None or node.kind != "Fp8Conv" or not end.inputs[4]:
        return None
    is_first = (
        node.inputs[0] == end.inputs[3]
        and list(constants[node.inputs[1]].shape) == [CHANNELS, 1, 1, CHANNELS]
        and len(node.inputs) == 3
        and node.attributes["stride"] == 1
        and node.attributes["relu"]
        and len(users[node.outputs[0]]) == 1
    )
    return node if is_first else None


def find_following(
    node: Node, users: Mapping[str, list[Node]], constants: Mapping[str, Any]
) -> Node | None:
    """Return the 1x1 convolution with ReLU that reads a tail's result, if narrow."""
    channels = constants[node.inputs[1]].shape[0]
    for user in users.get(node.outputs[0], []):
        if user.kind != "Fp8Conv" or len(user.inputs) != 3:
            continue
        shape = list(constants[user.inputs[1]].shape)
        is_plain = user.attributes["stride"] == 1 and user.attributes["relu"]
        if shape[0] in NEXT and shape[1:] == [1, 1, channels] and is_plain:
            return user
    return None


def run_residual_block(
    at: Mapping[str, Any],
    x: Any,
    shortcut: Any,
    weights: Any,
    biases: Any,
    next_channels: int,
) -> tuple[Any, ...]:
    """Return the block's result, and the next one's first product if there is one.

    ``x`` fp8 [batch, 64, height, width], channels last, or None where the block begins
    with the 1x1 convolution of what is projected; ``weights`` and ``biases`` as
    ``arrange_weights`` and ``arrange_biases`` return them.
    """
    batch, channels, height, width = shortcut.shape
    defines = make_defines(
        height, width, next_channels, projection=channels == CHANNELS, first=x is None
    )
    results = make_results(shortcut, (height, width), OUT, next_channels)
    tensors = (shortcut if x is None else x, weights, biases, shortcut, *results)
    shared = count_shared_bytes(defines)
    KERNEL.launch(at, defines, shared, tensors, batch * height)
    return tuple(results) if next_channels else (results[0],)


def part_of(at: Mapping[str, Any], part: str, kernel: int = 1) -> dict[str, Any]:
    """Return the attributes of the ``Fp8Conv`` that is a part of a joined node."""
    plain = {"kernel": kernel, "stride": 1, "relu": True, "shortcut_dequantize": 0.0}
    return plain | {n: at[f"{part}_{n}"] for n in PART_SCALES}


def run_apart(parts: Mapping[str, Any], at: Mapping[str, Any], *inputs: Any) -> Any:
    """Return what the kernel does, by ``Fp8Conv`` and ``ResidualTail`` of ``parts``.

    ``inputs`` are those of a ``ResidualBlock``.
    """
    x, shortcut, _, _, conv_weight, conv_bias, weight, bias, projection = inputs[:9]
    next_weight, next_bias, first_weight, first_bias = inputs[9:]
    convolve = parts["Fp8Conv"]
    if first_weight is not None:
        x = convolve(part_of(at, "first"), shortcut, first_weight, first_bias)
    narrow = convolve(part_of(at, "conv", 3), x, conv_weight, conv_bias)
    out = parts["ResidualTail"](at, narrow, weight, bias, shortcut, projection)
    if next_weight is None:
        return (out,)
    return out, convolve(part_of(at, "next"), out, next_weight, next_bias)


def make_operators(parts: Mapping[str, Any], choice: KernelChoice) -> dict[str, Any]:
    """Return ``ResidualBlock``; values are as ``tail.make_operators`` says.

    ``parts`` are ``Fp8Conv`` and ``ResidualTail``, for pictures that the kernel does
    not take.
    """

    def residual_block(at: Any, *inputs: Any) -> Any:
        x, shortcut, weights, biases = inputs[:4]
        if not shortcut.is_cuda or shortcut.shape[3] > BLOCK:
            return run_apart(parts, at, *inputs)
        channels = 0 if inputs[9] is None else len(inputs[9])
        return choice.run(
            lambda: run_residual_block(at, x, shortcut, weights, biases, channels),
            lambda: run_apart(parts, at, *inputs),
        )

    return {"ResidualBlock": residual_block}
