"""Joins convolution, sum and ReLU into the one call that cuDNN has for them."""

from __future__ import annotations

from typing import Any

from pytest_mlperf.engines.torch import ops
from pytest_mlperf.engines.torch.cublaslt import Blas
from pytest_mlperf.engines.torch.onnx_graph import Graph
from pytest_mlperf.engines.torch.onnx_graph import Node


def fused(graph: Graph) -> Graph:
    """Return the graph with ``ConvRelu`` and ``ConvAddRelu`` where they fit.

    A sum takes the later of two convolutions, whose other operand is then there.
    """
    users = graph.users()
    place = {out: i for i, n in enumerate(graph.nodes) for out in n.outputs}
    joined: dict[int, Node] = {}
    gone: set[int] = set()

    def only(name: str, kind: str) -> Node | None:
        after = users.get(name, [])
        if len(after) == 1 and after[0].kind == kind and name not in graph.outputs:
            return after[0]
        return None

    for number, node in enumerate(graph.nodes):
        if not _suits(node):
            continue
        relu = only(node.outputs[0], "Relu")
        if relu is not None:
            joined[place[relu.outputs[0]]] = Node(
                "ConvRelu", node.name, node.inputs, relu.outputs, node.attributes
            )
            gone.add(number)
            continue
        add = only(node.outputs[0], "Add")
        relu = only(add.outputs[0], "Relu") if add is not None else None
        if add is None or relu is None:
            continue
        other = next(i for i in add.inputs if i != node.outputs[0])
        spot = place[relu.outputs[0]]
        earlier = joined.get(spot)
        if earlier is not None or other in graph.constants:
            continue
        joined[spot] = Node(
            "ConvAddRelu", node.name, (*node.inputs, other), relu.outputs,
            node.attributes,
        )  # fmt: skip
        gone |= {number, place[add.outputs[0]]}
    nodes = [
        joined.get(i, node)
        for i, node in enumerate(graph.nodes)
        if i not in gone or i in joined
    ]
    return Graph(nodes, graph.constants, graph.inputs, graph.outputs)


def _suits(node: Node) -> bool:
    """Tell whether a convolution is one that the joined calls take."""
    pads = list(node.attributes.get("pads", [0, 0, 0, 0]))
    return (
        node.kind == "Conv"
        and len(node.inputs) == 3
        and node.attributes.get("group", 1) == 1
        and node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
        and pads[: len(pads) // 2] == pads[len(pads) // 2 :]
    )


def is_halving(at: dict[str, Any], channels: int) -> bool:
    """Tell whether a pooling is the one that has a kernel of its own."""
    return (
        list(at["kernel_shape"]) == [3, 3]
        and list(at.get("strides", ())) == [2, 2]
        and list(at.get("pads", ())) == [1, 1, 1, 1]
        and not at.get("ceil_mode", 0)
        and channels & (channels - 1) == 0
    )


def operators() -> dict[str, Any]:
    """Return the joined operators: cuDNN's on the device, plain ones on the CPU."""
    import torch

    from pytest_mlperf.engines.torch.conv.fp8 import pooled

    def settings(at: dict[str, Any]) -> tuple[list[int], list[int], list[int]]:
        pads = list(at.get("pads", [0, 0, 0, 0]))
        strides, holes = at.get("strides", [1, 1]), at.get("dilations", [1, 1])
        return list(strides), pads[: len(pads) // 2], list(holes)

    products: dict[int, Blas] = {}
    plain_pool = ops.operators()["MaxPool"]

    def as_product(
        at: dict[str, Any], x: Any, w: Any, b: Any, z: Any = None
    ) -> Any | None:
        """Run a 1x1 convolution as a matrix product; None where it is not one."""
        half = x.dtype in (torch.float16, torch.bfloat16)
        if x.device.type != "cuda" or not half or w.shape[2:] != (1, 1):
            return None
        if settings(at)[:2] != ([1, 1], [0, 0]) or w.shape[0] % 8 or w.shape[1] % 8:
            return None
        # A stream has a workspace of its own: products of two streams overlap.
        stream = torch.cuda.current_stream().cuda_stream
        if stream not in products:
            products[stream] = Blas(x.device)
        blas = products[stream]
        batch, into, height, width = x.shape
        last = torch.channels_last
        out = torch.empty(
            (batch, w.shape[0], height, width),
            dtype=x.dtype, device=x.device, memory_format=last,
        )  # fmt: skip

        def flat(value: Any) -> Any:
            value = value.contiguous(memory_format=last)
            return value.permute(0, 2, 3, 1).reshape(-1, value.shape[1])

        blas.linear(
            flat(x), w.reshape(w.shape[0], into), b, flat(out),
            activation="relu", add=None if z is None else flat(z),
        )  # fmt: skip
        return out

    def max_pool(at: dict[str, Any], x: Any) -> Any:
        half = x.dtype in (torch.float16, torch.bfloat16)
        if x.device.type != "cuda" or not half or not is_halving(at, x.shape[1]):
            return plain_pool(at, x)
        return pooled(x, x.dtype, 1.0, torch.finfo(x.dtype).max)

    def conv_relu(at: dict[str, Any], x: Any, w: Any, b: Any) -> Any:
        strides, pads, holes = settings(at)
        found = as_product(at, x, w, b)
        if found is not None:
            return found
        if x.device.type == "cuda":
            call = torch.ops.aten.cudnn_convolution_relu
            return call(x, w, b, strides, pads, holes, 1)
        return torch.conv2d(x, w, b, strides, pads, holes).relu()

    def conv_add_relu(at: dict[str, Any], x: Any, w: Any, b: Any, z: Any) -> Any:
        strides, pads, holes = settings(at)
        found = as_product(at, x, w, b, z)
        if found is not None:
            return found
        if x.device.type == "cuda":
            call = torch.ops.aten.cudnn_convolution_add_relu
            return call(x, w, z, 1.0, b, strides, pads, holes, 1)
        return (torch.conv2d(x, w, b, strides, pads, holes) + z).relu()

    return {"ConvRelu": conv_relu, "ConvAddRelu": conv_add_relu, "MaxPool": max_pool}
