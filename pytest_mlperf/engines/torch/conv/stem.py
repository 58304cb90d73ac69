"""The two ends of a convolution net in fp8: from pictures, and into the mean.

A first convolution of 7x7 with stride 2 on int8 pictures is a product of depth 256
once every 2x2 pixels are one: pixels stay exact, weights become int8.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pytest_mlperf.engines.torch.onnx_graph import Graph
from pytest_mlperf.engines.torch.onnx_graph import Node

FP8_MAX = 448.0
BLOCK = 16
"""Bytes of 2x2 pixels: 12 of three colours, and padding that loads like."""
COLOURS, SIDE, PAD = 3, 7, 3


def replaced(graph: Graph, pictures: Collection[str]) -> Graph:
    """Return an fp8 graph with ``LowStem`` and ``LowMean`` where its ends suit.

    ``pictures`` are those inputs that are int8, [batch, height, width, colour].
    """
    users = graph.users()
    makers = {out: node for node in graph.nodes for out in node.outputs}
    constants = dict(graph.constants)
    swapped: dict[int, list[Node]] = {}
    for node in graph.nodes:
        chain = _chain(node, makers, users)
        if node.kind == "LowPool" and chain and chain[0].inputs[0] in pictures:
            conv = chain[-1]
            weight, bias = (constants[name] for name in conv.inputs[1:])
            if not _suits(conv, weight):
                continue
            # The larger of two numbers stays the larger in fp8: the pool's scale is
            # applied before it.
            factor = node.attributes["factor"]
            low, scale = as_blocks(weight)
            unit = float(scale.max())
            name = conv.outputs[0]
            constants[f"{name}/int8"] = low
            constants[f"{name}/scale"] = scale / unit
            constants[f"{name}/low"] = bias * factor
            inputs = (chain[0].inputs[0], *(f"{name}/{n}" for n in _CONSTANTS))
            swapped |= {id(gone): [] for gone in chain[:-1]}
            swapped[id(conv)] = [
                Node("LowStem", conv.name, inputs, conv.outputs,
                     {"unit": unit * factor}),
            ]  # fmt: skip
            swapped[id(node)] = [
                Node("LowPool", node.name, node.inputs, node.outputs, {"factor": 1.0})
            ]
        raised = makers.get(node.inputs[0]) if node.inputs else None
        if raised is None or (raised.kind, node.kind) != ("Raise", "GlobalAveragePool"):
            continue
        if len(users[raised.outputs[0]]) == 1:
            swapped[id(raised)] = []
            swapped[id(node)] = [
                Node("LowMean", node.name, raised.inputs, node.outputs,
                     raised.attributes)
            ]  # fmt: skip
    nodes = [new for n in graph.nodes for new in swapped.get(id(n), [n])]
    return Graph(nodes, constants, graph.inputs, graph.outputs)


_CONSTANTS = ("int8", "scale", "low")


def _chain(node: Node, makers: Any, users: Any) -> list[Node]:
    """Return Cast, Transpose and ConvRelu before a pooling, or nothing."""
    found: list[Node] = []
    for kind in ("ConvRelu", "Transpose", "Cast"):
        made: Node | None = makers.get(node.inputs[0]) if node.inputs else None
        if made is None or made.kind != kind or len(users[made.outputs[0]]) > 1:
            return []
        found.insert(0, made)
        node = made
    return found if list(found[1].attributes.get("perm", ())) == [0, 3, 1, 2] else []


def _suits(conv: Node, weight: Any) -> bool:
    columns = weight.shape[0]
    return (
        list(weight.shape[1:]) == [COLOURS, SIDE, SIDE]
        and columns in (16, 32, 64, 128)
        and list(conv.attributes.get("strides", ())) == [2, 2]
        and list(conv.attributes.get("pads", ())) == [PAD] * 4
        and set(conv.attributes.get("dilations", [1])) == {1}
    )


def as_blocks(weight: Any) -> tuple[Any, Any]:
    """Return int8 weights [columns, 4, 64] over blocks of 2x2 pixels, and their scales.

    One row and column of zeros in front make 7x7 an even 8x8.
    """
    import torch

    columns = len(weight)
    scale = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    low = (weight / scale[:, None, None, None]).round().to(torch.int8)
    even = torch.nn.functional.pad(low, (1, 0, 1, 0))
    apart = even.reshape(columns, COLOURS, 4, 2, 4, 2)
    # column, colour, block y, y, block x, x -> column, block y, block x, y, x, colour
    blocks = apart.permute(0, 2, 4, 3, 5, 1).reshape(columns, 4, 4, 4 * COLOURS)
    full = torch.nn.functional.pad(blocks, (0, BLOCK - 4 * COLOURS))
    return full.reshape(columns, 4, 4 * BLOCK).contiguous(), scale


def operators() -> dict[str, Any]:
    """Return ``LowStem`` (int8 pictures in, fp8 out) and ``LowMean`` (fp16 out)."""
    import torch

    from pytest_mlperf.engines.torch.conv import kernels as kernels

    def low_stem(at: Any, x: Any, w: Any, scale: Any, bias: Any) -> Any:
        batch, height, width, _ = x.shape
        columns = w.shape[0]
        tall, broad = (height + 1) // 2, (width + 1) // 2
        blocks = batch * (tall + 3) * (broad + 3)
        folded = torch.empty((blocks, BLOCK), dtype=torch.int8, device=x.device)
        kernels.fold[(-(-blocks // 256),)](
            x, folded, blocks, height, width, broad + 3, tall + 3, C=COLOURS, M=256,
            num_warps=4,
        )  # fmt: skip
        out = torch.empty(
            (batch, columns, tall, broad),
            dtype=torch.float8_e4m3fn,
            device=x.device,
            memory_format=torch.channels_last,
        )
        rows = batch * tall * broad
        kernels.begin[(-(-rows // 256),)](
            folded, w, scale, bias, out, rows, tall, broad, broad + 3, tall + 3,
            at["unit"], COLUMNS=columns, M=256, LIMIT=FP8_MAX,
            num_warps=4, num_stages=1,
        )  # fmt: skip
        return out

    def low_mean(at: Any, x: Any) -> Any:
        batch, channels, height, width = x.shape
        out = torch.empty((batch, channels, 1, 1), dtype=torch.float16, device=x.device)
        pixels = height * width
        part = 256 if channels % 256 == 0 else 64
        kernels.average[(batch, channels // part)](
            x, out, channels, at["back"],
            PIXELS=pixels, P=1 << (pixels - 1).bit_length(), C=part, num_warps=4,
        )  # fmt: skip
        return out

    return {"LowStem": low_stem, "LowMean": low_mean}
