"""Instance normalization and ReLU of channels-last activations, in three launches.

PyTorch's own would copy them into another layout and back, and take a pass for ReLU.
"""

from __future__ import annotations

from typing import Any

from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

VOXELS = 2048
"""Of a program: each takes that many voxels of one sample."""
ROWS = 64
"""Voxels that a program holds at a time."""


def fuse_norms(graph: OnnxGraph) -> OnnxGraph:
    """Return the graph with ``NormRelu`` where a ReLU alone follows a normalization."""
    users = graph.users()
    nodes: list[Node] = []
    skipped: set[str] = set()
    for node in graph.nodes:
        out = node.outputs[0]
        if out in skipped:
            continue
        after = users.get(out, [])
        is_norm = node.kind == "InstanceNormalization" and out not in graph.outputs
        if is_norm and len(after) == 1 and after[0].kind == "Relu":
            node = Node(
                "NormRelu", node.name, node.inputs, after[0].outputs, node.attributes
            )
            skipped.add(after[0].outputs[0])
        nodes.append(node)
    return OnnxGraph(nodes, graph.constants, graph.inputs, graph.outputs)


def suits(x: Any) -> bool:
    """Tell whether the kernels take activations: half, on the device, and a number of
    channels that blocks divide.
    """
    return bool(
        x.device.type == "cuda" and x.itemsize == 2 and x.ndim == 5
        and x.shape[1] % 16 == 0
    )  # fmt: skip


def run_norm_relu(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    """Return relu(instance norm) of ``x`` [batch, channels, depth, height, width], in
    the layout channels_last_3d.

    Means and variances are float32, of blocks first: the sum of squares alone would
    lose what a large mean hides.
    """
    import torch

    from pytest_mlperf.engines.torch.volumes import kernels

    x = x.contiguous(memory_format=torch.channels_last_3d)
    batch, channels = x.shape[:2]
    voxels = x[0, 0].numel()
    blocks = -(-voxels // VOXELS)
    width = max(w for w in (64, 32, 16) if channels % w == 0)
    partial = torch.empty(
        batch, blocks, 2, channels, dtype=torch.float32, device=x.device
    )
    factors = torch.empty(batch, 2, channels, dtype=torch.float32, device=x.device)
    out = torch.empty_like(x)
    grid = blocks, batch, channels // width
    kernels.measure_blocks[grid](
        x, partial, voxels, channels, VOXELS=VOXELS, ROWS=ROWS, WIDTH=width
    )
    kernels.merge_blocks[(batch, channels // 16)](
        partial, weight, bias, factors, voxels, channels, blocks, epsilon,
        VOXELS=VOXELS, ROWS=ROWS, WIDTH=16,
    )  # fmt: skip
    kernels.normalize[grid](
        x, factors, out, voxels, channels,
        RELU=True, VOXELS=VOXELS, ROWS=ROWS, WIDTH=width,
    )  # fmt: skip
    return out
