"""Joins the ends of residual blocks in fp8: the last product, its sum, the shortcut's.

Where a block changes its width, the shortcut is a convolution as wide as the result;
computed in the same kernel (``torch_tail_kernels``), it is neither written nor read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.engines.torch.onnx_graph import Graph
from pytest_mlperf.engines.torch.onnx_graph import Node

DEEPEST = 128
"""Channels of the product up to which a kernel that keeps its rows is faster."""
DEEPEST_SIDE = 256
"""Channels of a block's input up to which its shortcut is computed on the way."""


def joined(graph: Graph) -> Graph:
    """Return an fp8 graph with ``LowTail`` nodes where blocks are narrow enough.

    A tail's inputs are x, weight, bias, side, and the side's weight (an empty name
    where the side is the shortcut itself).
    """
    users = graph.users()
    makers = {out: node for node in graph.nodes for out in node.outputs}
    constants = dict(graph.constants)
    gone: set[int] = set()
    tails: dict[int, Node] = {}
    for node in graph.nodes:
        if not _is_tail(node, constants):
            continue
        x, weight, bias, side = node.inputs
        at: dict[str, Any] = {
            "back": node.attributes["back"],
            "side_back": node.attributes["add"],
            "factor": node.attributes["factor"],
            "stride": 1,
        }
        side_weight = ""
        maker = makers.get(side)
        if maker is not None and _is_projection(maker, users[side], constants):
            at["side_back"] = maker.attributes["back"]
            at["stride"] = maker.attributes["stride"]
            both = f"{node.outputs[0]}/bias"
            constants[both] = constants[bias] + constants[maker.inputs[2]]
            side, side_weight, _ = maker.inputs
            bias = both
            gone.add(id(maker))
        inputs = (x, weight, bias, side, side_weight)
        tails[id(node)] = Node("LowTail", node.name, inputs, node.outputs, at)
    nodes = [tails.get(id(n), n) for n in graph.nodes if id(n) not in gone]
    return Graph(nodes, constants, graph.inputs, graph.outputs)


def _is_tail(node: Node, constants: Mapping[str, Any]) -> bool:
    return (
        _is_flat(node, 4, DEEPEST, constants)
        and node.attributes["stride"] == 1
        and bool(node.attributes["relu"])
    )


def _is_projection(node: Node, users: list[Node], constants: Mapping[str, Any]) -> bool:
    return (
        _is_flat(node, 3, DEEPEST_SIDE, constants)
        and len(users) == 1
        and not node.attributes["relu"]
    )


def _is_flat(
    node: Node, inputs: int, deepest: int, constants: Mapping[str, Any]
) -> bool:
    """Tell whether a node is a 1x1 convolution of a power of two of channels."""
    if node.kind != "LowConv" or len(node.inputs) != inputs:
        return False
    deep = int(constants[node.inputs[1]].shape[-1])
    flat = bool(node.attributes["side"] == 1)
    return flat and deep & (deep - 1) == 0 and deep <= deepest


def tile(deep: int, side: int) -> dict[str, int]:
    """Return the tile of one tail: the fastest of five to nine, as timed on an H100."""
    if side:
        return {"M": 128, "N": 64, "num_warps": 4 if deep <= 64 else 8, "num_stages": 2}
    if deep <= 64:
        return {"M": 64, "N": 64, "num_warps": 4, "num_stages": 3}
    return {"M": 128, "N": 64, "num_warps": 8, "num_stages": 3}


def operators() -> dict[str, Any]:
    """Return ``LowTail``; values are [batch, channels, height, width] in channels-last
    memory.
    """
    import torch

    from pytest_mlperf.engines.torch.conv import tail_kernels as kernels

    def low_tail(at: Any, x: Any, w: Any, b: Any, z: Any, v: Any) -> Any:
        batch, deep, tall, broad = x.shape
        wide = w.shape[0]
        side = 0 if v is None else z.shape[1]
        out = torch.empty(
            (batch, wide, tall, broad),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        rows = batch * tall * broad
        shape = tile(deep, side)
        kernels.tail[(-(-rows // shape["M"]),)](
            x, w, b, z, v, out, rows, z.shape[2], z.shape[3], tall, broad,
            at["back"], at["side_back"], at["factor"],
            DEEP=deep, WIDE=wide, SIDE=side, STRIDE=at["stride"], **shape,
        )  # fmt: skip
        return out

    return {"LowTail": low_tail}
