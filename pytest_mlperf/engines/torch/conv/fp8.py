"""Turns a fused convolution net to fp8: weights and every activation between them.

Activations of an image net are what fills the memory bus; fp8 halves them. What is
not a wide convolution (the classifier) stays in fp16.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch.conv import stem
from pytest_mlperf.engines.torch.conv import tail
from pytest_mlperf.engines.torch.fuse import is_halving
from pytest_mlperf.engines.torch.onnx_graph import Graph
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import Program

FP8_MAX = 448.0
HEADROOM = 2.0
"""Calibrated maxima are stretched by this; what is larger still saturates."""
CALIBRATION_SAMPLES = 128
CONVOLUTIONS = ("Conv", "ConvRelu", "ConvAddRelu")
WIDE = 64
"""Channels, in and out, are multiples of this where a convolution runs in fp8."""


def observed(graph: Graph) -> Graph:
    """Return the graph with every activation to be scaled as an output."""
    kinds = (*CONVOLUTIONS, "MaxPool")
    names = [node.outputs[0] for node in graph.nodes if node.kind in kinds]
    return Graph(graph.nodes, graph.constants, graph.inputs, tuple(names))


def quantised(graph: Graph, maxima: Mapping[str, float]) -> Graph:
    """Return the graph in fp8, given the largest magnitude of each activation.

    Raises ``BuildFailed`` where no convolution can run in fp8.
    """
    import torch

    constants = dict(graph.constants)
    nodes: list[Node] = []
    back: dict[str, float] = {}
    """fp8 values -> what they are multiplied by to mean what they did."""

    def scaled(name: str) -> float:
        top = maxima[name] * HEADROOM
        back[name] = max(top, 1e-6) / FP8_MAX
        return 1 / back[name]

    for node in graph.nodes:
        out = node.outputs[0]
        if node.kind == "MaxPool" and is_halving(node.attributes, WIDE):
            nodes.append(Node("LowPool", node.name, node.inputs, node.outputs,
                              {"factor": scaled(out)}))  # fmt: skip
            continue
        if node.kind in CONVOLUTIONS and node.inputs[0] in back:
            weight = constants.get(node.inputs[1])
            add = node.kind == "ConvAddRelu"
            known = not add or node.inputs[3] in back
            if weight is not None and known and _is_wide(node, weight):
                top = weight.abs().amax().item() / FP8_MAX
                low = (weight / top).to(torch.float8_e4m3fn)
                constants[f"{out}/fp8"] = low.permute(0, 2, 3, 1).contiguous()
                attributes = {
                    "side": weight.shape[2],
                    "stride": node.attributes.get("strides", [1, 1])[0],
                    "relu": node.kind != "Conv",
                    "back": top * back[node.inputs[0]],
                    "add": back[node.inputs[3]] if add else 0.0,
                    "factor": scaled(out),
                }
                inputs = (node.inputs[0], f"{out}/fp8", *node.inputs[2:])
                nodes.append(
                    Node("LowConv", node.name, inputs, node.outputs, attributes)
                )
                continue
        # Anything else reads what it always read.
        for name in [n for n in node.inputs if n in back]:
            raised = f"{name}/raised"
            nodes.append(Node("Raise", "", (name,), (raised,), {"back": back[name]}))
            inputs = tuple(raised if n == name else n for n in node.inputs)
            node = Node(node.kind, node.name, inputs, node.outputs, node.attributes)
        nodes.append(node)
    if not any(node.kind == "LowConv" for node in nodes):
        raise BuildFailed(
            "the graph has no convolution of multiples of 64 channels after a pooling, "
            "which is what the engine torch runs in fp8; use --mlperf-precision fp16"
        )
    return Graph(nodes, constants, graph.inputs, graph.outputs)


def _is_wide(node: Node, weight: Any) -> bool:
    side = weight.shape[2]
    pads = set(node.attributes.get("pads", [0]))
    strides = node.attributes.get("strides", [1, 1])
    return (
        node.attributes.get("group", 1) == 1
        and weight.shape[0] % WIDE == 0
        and weight.shape[1] % WIDE == 0
        and side in (1, 3)
        and pads == {side // 2}
        and set(node.attributes.get("dilations", [1])) == {1}
        and strides[0] == strides[1]
        and len(node.inputs) >= 3
    )


def pooled(x: Any, dtype: Any, factor: float, limit: float) -> Any:
    """Run the pooling kernel: 3x3, stride 2, padding 1; channels a power of two."""
    import torch

    from pytest_mlperf.engines.torch.conv import kernels as kernels

    batch, channels, height, width = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    tall, broad = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    out = torch.empty(
        (batch, channels, tall, broad),
        dtype=dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    rows = batch * tall * broad
    kernels.pool[(-(-rows // 32),)](
        x, out, rows, height, width, tall, broad, factor,
        C=channels, M=32, LIMIT=limit,
    )  # fmt: skip
    return out


def tile(columns: int, side: int, into: int, *, add: bool) -> dict[str, int]:
    """Return the tile of one convolution: the fastest of nine, as timed on an H100."""
    deep = WIDE if into == WIDE else 128
    if columns == WIDE or (add and into <= 128):
        # What moves more bytes than it computes wants many small programs.
        return {"M": 128, "N": 64, "K": 64, "num_warps": 4, "num_stages": 3}
    if side == 3 and into >= 256 and columns % 256 == 0:
        return {"M": 128, "N": 256, "K": deep, "num_warps": 8, "num_stages": 3}
    return {"M": 128, "N": 128, "K": deep, "num_warps": 4, "num_stages": 3}


def processors(device: Any) -> int:
    """Return how many multiprocessors a device has; 1 of a CPU, for the interpreter."""
    import torch

    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def calibrated(
    graph: Graph, device: Any, batches: Iterable[Batch], more: Mapping[str, Any]
) -> tuple[Graph, int]:
    """Return the graph in fp8 and how many samples its ranges come from."""
    import torch

    seen = observed(graph)
    program = Program(seen, device, torch.float16, more)
    maxima: dict[str, float] = dict.fromkeys(seen.outputs, 0.0)
    count = 0
    pictures: set[str] = set()
    for batch in batches:
        pictures |= {n for n, a in batch.items() if a.dtype == np.int8 and a.ndim == 4}
        feeds = {n: torch.from_numpy(a).to(device) for n, a in batch.items()}
        for name, value in zip(seen.outputs, program.run(feeds), strict=True):
            maxima[name] = max(maxima[name], value.abs().max().item())
        count += len(next(iter(batch.values())))
        if count >= CALIBRATION_SAMPLES:
            break
    low = stem.replaced(quantised(graph, maxima), pictures)
    return tail.joined(low), count


def operators() -> dict[str, Any]:
    """Return the fp8 operators; values are [batch, channels, height, width] in
    channels-last memory, as everywhere in PyTorch.
    """
    import torch

    from pytest_mlperf.engines.torch.conv import kernels as kernels

    def empty(x: Any, *shape: int) -> Any:
        return torch.empty(
            shape,
            dtype=torch.float8_e4m3fn,
            device=x.device,
            memory_format=torch.channels_last,
        )

    def low_conv(at: Any, x: Any, w: Any, b: Any, z: Any = None) -> Any:
        batch, into, height, width = x.shape
        side, stride = at["side"], at["stride"]
        tall = (height - 1) // stride + 1
        broad = (width - 1) // stride + 1
        columns = w.shape[0]
        out = empty(x, batch, columns, tall, broad)
        rows = batch * tall * broad
        if side == 3 and stride == 1 and into == columns == WIDE and at["relu"]:
            programs = 2 * processors(x.device)
            kernels.narrow[(programs,)](
                x, w, b, out, rows, at["back"], at["factor"], HEIGHT=height,
                WIDTH=width, C=WIDE, M=64, PROGRAMS=programs,
                num_warps=4, num_stages=2,
            )  # fmt: skip
            return out
        shape = tile(columns, side, into, add=z is not None)
        grid = (-(-rows // shape["M"]) * (columns // shape["N"]),)
        kernels.convolve[grid](
            x, w, b, x if z is None else z, out, rows, into, columns, height, width,
            tall, broad, at["back"], at["add"], at["factor"], SIDE=side,
            STRIDE=stride, ADD=z is not None, RELU=at["relu"], GROUP=8, **shape,
        )  # fmt: skip
        return out

    def low_pool(at: Any, x: Any) -> Any:
        return pooled(x, torch.float8_e4m3fn, at["factor"], FP8_MAX)

    def raised(at: Any, x: Any) -> Any:
        return x.to(torch.float16) * at["back"]

    return {"LowConv": low_conv, "LowPool": low_pool, "Raise": raised}
