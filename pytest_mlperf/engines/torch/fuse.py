"""Fuses convolution, sum and ReLU into the one call that cuDNN has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.engines.torch.conv.stem import run_max_pool
from pytest_mlperf.engines.torch.cublaslt import CublasLt
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import is_halving_pool
from pytest_mlperf.engines.torch.ops import TorchCalls
from pytest_mlperf.engines.torch.volumes import instance_norm

BIAS_BLOCK = 4096
"""Numbers of a program that adds biases."""


def fuse_convolutions(graph: OnnxGraph) -> OnnxGraph:
    """Return the graph with ``ConvRelu`` and ``ConvAddRelu`` where they fit.

    A sum takes the later of two convolutions, whose other operand is then there.
    """
    users = graph.users()
    place = {out: i for i, n in enumerate(graph.nodes) for out in n.outputs}
    fused: dict[int, Node] = {}
    removed: set[int] = set()

    def only_user(name: str, kind: str) -> Node | None:
        after = users.get(name, [])
        if len(after) == 1 and after[0].kind == kind and name not in graph.outputs:
            return after[0]
        return None

    for number, node in enumerate(graph.nodes):
        if not _is_fusible(node):
            continue
        relu = only_user(node.outputs[0], "Relu")
        if relu is not None:
            fused[place[relu.outputs[0]]] = Node(
                "ConvRelu", node.name, node.inputs, relu.outputs, node.attributes
            )
            removed.add(number)
            continue
        add = only_user(node.outputs[0], "Add")
        relu = only_user(add.outputs[0], "Relu") if add is not None else None
        if add is None or relu is None or node.attributes.get("group", 1) != 1:
            continue
        shortcut = next(i for i in add.inputs if i != node.outputs[0])
        spot = place[relu.outputs[0]]
        if spot in fused or shortcut in graph.constants:
            continue
        inputs = (*node.inputs, shortcut)
        fused[spot] = Node(
            "ConvAddRelu", node.name, inputs, relu.outputs, node.attributes
        )
        removed |= {number, place[add.outputs[0]]}
    nodes = [
        fused.get(i, node)
        for i, node in enumerate(graph.nodes)
        if i not in removed or i in fused
    ]
    return OnnxGraph(nodes, graph.constants, graph.inputs, graph.outputs)


def _is_fusible(node: Node) -> bool:
    """Tell whether a convolution is one that the fused calls take."""
    pads = list(node.attributes.get("pads", [0, 0, 0, 0]))
    return (
        node.kind == "Conv"
        and len(node.inputs) == 3
        and len(pads) == 4  # the fused calls are of pictures
        and node.attributes.get("auto_pad", "NOTSET") == "NOTSET"
        and pads[: len(pads) // 2] == pads[len(pads) // 2 :]
    )


class FusedOperators:
    """The fused operators: cuDNN's and cuBLASLt's on the device, plain on the CPU."""

    def __init__(self) -> None:
        import torch

        self._torch, self._plain = torch, TorchCalls()
        self._blas: dict[int, CublasLt] = {}
        """CUDA stream -> handle; each has a workspace of its own, so that products of
        two streams overlap."""

    def table(self) -> dict[str, Any]:
        return {
            "Conv": self.conv,
            "ConvRelu": self.conv_relu,
            "ConvAddRelu": self.conv_add_relu,
            "MaxPool": self.max_pool,
            "NormRelu": self.norm_relu,
        }

    def norm_relu(self, attributes: Mapping[str, Any], x: Any, w: Any, b: Any) -> Any:
        if instance_norm.suits(x):
            epsilon = float(attributes.get("epsilon", 1e-5))
            return instance_norm.run_norm_relu(x, w, b, epsilon)
        return self._plain.instance_norm(attributes, x, w, b).relu()

    def max_pool(self, attributes: Mapping[str, Any], x: Any) -> Any:
        if not self._is_half_on_gpu(x) or not is_halving_pool(attributes, x.shape[1]):
            return self._plain.max_pool(attributes, x)
        return run_max_pool(x, x.dtype, 1.0, self._torch.finfo(x.dtype).max)

    def conv(self, attributes: Mapping[str, Any], x: Any, w: Any, b: Any = None) -> Any:
        if b is None or not self._is_half_on_gpu(x):
            return self._plain.conv(attributes, x, w, b)
        return add_bias(self._plain.conv(attributes, x, w), b)

    def conv_relu(self, attributes: Mapping[str, Any], x: Any, w: Any, b: Any) -> Any:
        settings, torch = _read_settings(attributes), self._torch
        if attributes.get("group", 1) != 1:
            # cuDNN's call for both would be slower than its best without.
            out = self._plain.conv(attributes, x, w)
            return add_bias(out, b, relu=True)
        product = self._run_as_product(settings, x, w, b)
        if product is not None:
            return product
        if x.device.type == "cuda":
            return torch.ops.aten.cudnn_convolution_relu(x, w, b, *settings, 1)
        return torch.conv2d(x, w, b, *settings).relu()

    def conv_add_relu(
        self, attributes: Mapping[str, Any], x: Any, w: Any, b: Any, shortcut: Any
    ) -> Any:
        settings, torch = _read_settings(attributes), self._torch
        product = self._run_as_product(settings, x, w, b, shortcut)
        if product is not None:
            return product
        if x.device.type == "cuda":
            call = torch.ops.aten.cudnn_convolution_add_relu
            return call(x, w, shortcut, 1.0, b, *settings, 1)
        return (torch.conv2d(x, w, b, *settings) + shortcut).relu()

    def _is_half_on_gpu(self, x: Any) -> bool:
        half = (self._torch.float16, self._torch.bfloat16)
        return bool(x.device.type == "cuda" and x.dtype in half)

    def _run_as_product(
        self,
        settings: tuple[list[int], list[int], list[int]],
        x: Any,
        w: Any,
        b: Any,
        shortcut: Any = None,
    ) -> Any | None:
        """Run a 1x1 convolution as a matrix product; None where it is not one."""
        torch = self._torch
        if not self._is_half_on_gpu(x) or w.shape[2:] != (1, 1):
            return None
        if settings[:2] != ([1, 1], [0, 0]) or w.shape[0] % 8 or w.shape[1] % 8:
            return None
        stream = torch.cuda.current_stream().cuda_stream
        if stream not in self._blas:
            self._blas[stream] = CublasLt(x.device)
        batch, in_channels, height, width = x.shape
        channels_last = torch.channels_last
        out = torch.empty(
            (batch, w.shape[0], height, width),
            dtype=x.dtype, device=x.device, memory_format=channels_last,
        )  # fmt: skip

        def flatten(value: Any) -> Any:
            value = value.contiguous(memory_format=channels_last)
            return value.permute(0, 2, 3, 1).reshape(-1, value.shape[1])

        self._blas[stream].linear(
            flatten(x), w.reshape(w.shape[0], in_channels), b, flatten(out),
            activation="relu", add=None if shortcut is None else flatten(shortcut),
        )  # fmt: skip
        return out


def add_bias(x: Any, bias: Any, *, relu: bool = False) -> Any:
    """Add a bias a channel, in place where it can; then ReLU if asked.

    PyTorch's own sum of a convolution's bias runs at half of the memory's speed.
    """
    import torch

    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    layout = layouts.get(x.ndim)
    if (
        x.device.type != "cuda"
        or x.itemsize != 2
        or layout is None
        or not x.is_contiguous(memory_format=layout)
    ):
        x = x + bias.view(1, -1, *[1] * (x.ndim - 2))
        return x.relu() if relu else x
    from pytest_mlperf.engines.torch.conv import kernels

    kernels.add_bias[(-(-x.numel() // BIAS_BLOCK),)](
        x, bias, x.numel(), x.shape[1], RELU=relu, BLOCK=BIAS_BLOCK
    )
    return x


def _read_settings(
    attributes: Mapping[str, Any],
) -> tuple[list[int], list[int], list[int]]:
    """Return strides, padding and dilations."""
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    strides = list(attributes.get("strides", [1, 1]))
    dilations = list(attributes.get("dilations", [1, 1]))
    return strides, pads[: len(pads) // 2], dilations
