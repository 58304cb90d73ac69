"""Joins the ends of residual blocks in fp8: the last product, its sum, the shortcut's.

Where a block changes its width, the shortcut is a projection as wide as the result;
computed in the same kernel, it is neither written nor read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.engines.torch.conv.pointwise import launch
from pytest_mlperf.engines.torch.conv.stem import empty_pictures
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

MAX_CHANNELS = 128
"""Input channels of the product up to which a kernel that holds its rows is faster."""
MAX_SHORTCUT_CHANNELS = 256
"""Channels of a block's input up to which its projection is computed on the way."""


def join_tails(graph: OnnxGraph) -> OnnxGraph:
    """Return an fp8 graph with ``ResidualTail`` nodes where blocks are narrow enough.

    A tail's inputs are x, weight, bias, shortcut, and the projection's weight (an empty
    name where the shortcut is the block's input itself).
    """
    users, makers = graph.users(), graph.makers()
    constants = dict(graph.constants)
    removed: set[int] = set()
    tails: dict[int, Node] = {}
    for node in graph.nodes:
        if not _is_tail(node, constants):
            continue
        x, weight, bias, shortcut = node.inputs
        at: dict[str, Any] = {
            "dequantize": node.attributes["dequantize"],
            "shortcut_dequantize": node.attributes["shortcut_dequantize"],
            "quantize": node.attributes["quantize"],
            "stride": 1,
        }
        projection = ""
        maker = makers.get(shortcut)
        if maker is not None and _is_projection(maker, users[shortcut], constants):
            at["shortcut_dequantize"] = maker.attributes["dequantize"]
            at["stride"] = maker.attributes["stride"]
            both = f"{node.outputs[0]}/bias"
            constants[both] = constants[bias] + constants[maker.inputs[2]]
            shortcut, projection, _ = maker.inputs
            bias = both
            removed.add(id(maker))
        inputs = (x, weight, bias, shortcut, projection)
        tails[id(node)] = Node("ResidualTail", node.name, inputs, node.outputs, at)
    nodes = [tails.get(id(n), n) for n in graph.nodes if id(n) not in removed]
    return OnnxGraph(nodes, constants, graph.inputs, graph.outputs)


def _is_tail(node: Node, constants: Mapping[str, Any]) -> bool:
    return (
        _is_pointwise(node, 4, MAX_CHANNELS, constants)
        and node.attributes["stride"] == 1
        and bool(node.attributes["relu"])
    )


def _is_projection(node: Node, users: list[Node], constants: Mapping[str, Any]) -> bool:
    return (
        _is_pointwise(node, 3, MAX_SHORTCUT_CHANNELS, constants)
        and len(users) == 1
        and not node.attributes["relu"]
    )


def _is_pointwise(
    node: Node, inputs: int, max_channels: int, constants: Mapping[str, Any]
) -> bool:
    """Tell whether a node is a 1x1 convolution of a power of two of channels."""
    if node.kind != "Fp8Conv" or len(node.inputs) != inputs:
        return False
    channels = int(constants[node.inputs[1]].shape[-1])
    pointwise = bool(node.attributes["kernel"] == 1)
    return pointwise and channels & (channels - 1) == 0 and channels <= max_channels


def choose_tile(channels: int, shortcut_channels: int) -> dict[str, int]:
    """Return the tile of one tail: the fastest of five to nine, as timed on an H100."""
    if shortcut_channels:
        warps = 4 if channels <= 64 else 8
        return {"M": 128, "N": 64, "num_warps": warps, "num_stages": 2}
    if channels <= 64:
        return {"M": 64, "N": 64, "num_warps": 4, "num_stages": 3}
    return {"M": 128, "N": 64, "num_warps": 8, "num_stages": 3}


def make_operators() -> dict[str, Any]:
    """Return ``ResidualTail``; values are [batch, channels, height, width] in
    channels-last memory.
    """
    from pytest_mlperf.engines.torch.conv import kernels

    def residual_tail(
        at: Any, x: Any, w: Any, b: Any, shortcut: Any, projection: Any
    ) -> Any:
        batch, channels, height, width = x.shape
        out_channels = w.shape[0]
        shortcut_channels = 0 if projection is None else shortcut.shape[1]
        shape = (batch, out_channels, height, width)
        out = empty_pictures(x, shape, x.dtype)
        if not shortcut_channels and launch.is_available(x.device):
            streamed = launch.choose_tile(channels, out_channels, add=True)
            if streamed is not None:
                values = (x, w, b, shortcut)
                launch.run_pointwise(at, values, out, streamed, bias_last=True)
                return out
        rows = batch * height * width
        tile = choose_tile(channels, shortcut_channels)
        kernels.residual_tail[(-(-rows // tile["M"]),)](
            x, w, b, shortcut, projection, out, rows, shortcut.shape[2],
            shortcut.shape[3], height, width, at["dequantize"],
            at["shortcut_dequantize"], at["quantize"], IN=channels, OUT=out_channels,
            SHORTCUT=shortcut_channels, STRIDE=at["stride"], **tile,
        )  # fmt: skip
        return out

    return {"ResidualTail": residual_tail}
