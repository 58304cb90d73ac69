"""Joins the ends of residual blocks in fp8: what is wide is written once, not read.

The last convolution of a block, its sum, the shortcut's convolution where there is one,
and the first convolution of the next block become one kernel (``torch_tail_kernels``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.engines.torch_onnx import Graph
from pytest_mlperf.engines.torch_onnx import Node

DEEPEST = 256
"""Channels of a product's left side that a kernel keeps whole."""


def joined(graph: Graph) -> Graph:
    """Return an fp8 graph with ``LowTail`` nodes where blocks are narrow enough.

    A tail's inputs are x, weight, bias, side, and with their products the side's weight
    and the next convolution's weight and bias (empty names where there is none).
    """
    users = graph.users()
    makers = {out: node for node in graph.nodes for out in node.outputs}
    constants = dict(graph.constants)
    gone: set[int] = set()
    tails: dict[int, Node] = {}
    for node in graph.nodes:
        if not _is_tail(node, constants):
            continue
        out = node.outputs[0]
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
            # The shortcut stays a sum of products: it is neither written nor rounded.
            at["side_back"] = maker.attributes["back"]
            at["stride"] = maker.attributes["stride"]
            constants[f"{out}/bias"] = constants[bias] + constants[maker.inputs[2]]
            side, side_weight, _ = maker.inputs
            bias = f"{out}/bias"
            gone.add(id(maker))
        after = [n for n in users.get(out, []) if _is_head(n, out, constants)]
        following: tuple[str, ...] = ("", "")
        outputs: tuple[str, ...] = (out,)
        if after and out not in graph.outputs:
            head = after[0]
            at["next_back"] = head.attributes["back"]
            at["next_factor"] = head.attributes["factor"]
            following, outputs = head.inputs[1:3], (out, head.outputs[0])
            gone.add(id(head))
        if side_weight or following[0]:
            inputs = (x, weight, bias, side, side_weight, *following)
            tails[id(node)] = Node("LowTail", node.name, inputs, outputs, at)
    nodes = [tails.get(id(n), n) for n in graph.nodes if id(n) not in gone]
    return Graph(nodes, constants, graph.inputs, graph.outputs)


def _flat(node: Node) -> bool:
    return node.kind == "LowConv" and node.attributes["side"] == 1


def _is_tail(node: Node, constants: Mapping[str, Any]) -> bool:
    return (
        _flat(node)
        and len(node.inputs) == 4
        and node.attributes["stride"] == 1
        and bool(node.attributes["relu"])
        and _is_power(constants[node.inputs[1]].shape[-1])
    )


def _is_projection(
    node: Node, users: list[Node], constants: Mapping[str, Any]
) -> bool:
    return (
        _flat(node)
        and len(node.inputs) == 3
        and len(users) == 1
        and not node.attributes["relu"]
        and _is_power(constants[node.inputs[1]].shape[-1])
    )


def _is_head(node: Node, out: str, constants: Mapping[str, Any]) -> bool:
    return (
        _flat(node)
        and node.inputs[0] == out
        and len(node.inputs) == 3
        and node.attributes["stride"] == 1
        and bool(node.attributes["relu"])
        and _is_power(constants[node.inputs[1]].shape[0])
    )


def _is_power(channels: int) -> bool:
    return channels & (channels - 1) == 0 and channels <= DEEPEST


def tile(deep: int, side: int, after: int) -> dict[str, int]:
    """Return the tile of one tail: the fastest of those timed on an H100."""
    return {"M": 128, "N": 64, "num_warps": 8, "num_stages": 2}


def operators() -> dict[str, Any]:
    """Return ``LowTail``; values are [batch, channels, height, width] in channels-last
    memory.
    """
    import torch

    from pytest_mlperf.engines import torch_tail_kernels as kernels

    def low_tail(
        at: Any, x: Any, w: Any, b: Any, z: Any, v: Any, u: Any, c: Any
    ) -> tuple[Any, ...]:
        batch, deep, tall, broad = x.shape
        wide = w.shape[0]
        side = 0 if v is None else z.shape[1]
        after = 0 if u is None else u.shape[0]

        def empty(channels: int) -> Any:
            return torch.empty(
                (batch, channels, tall, broad),
                dtype=x.dtype,
                device=x.device,
                memory_format=torch.channels_last,
            )

        out = empty(wide)
        next_out = empty(after) if after else None
        rows = batch * tall * broad
        shape = tile(deep, side, after)
        kernels.tail[(-(-rows // shape["M"]),)](
            x, w, b, z, v, u, c, out, next_out, rows, z.shape[2], z.shape[3], tall,
            broad, at["back"], at["side_back"], at["factor"],
            at.get("next_back", 0.0), at.get("next_factor", 0.0),
            DEEP=deep, WIDE=wide, SIDE=side, STRIDE=at["stride"], NEXT=after, **shape,
        )  # fmt: skip
        return (out, next_out) if after else (out,)

    return {"LowTail": low_tail}
