"""Turns a fused convolution net to fp8: weights and every activation between them.

The activations of an image net fill the memory bus; fp8 halves them. Everything but
wide convolutions (the classifier) stays in fp16.
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
from pytest_mlperf.engines.torch.conv.pointwise import launch
from pytest_mlperf.engines.torch.conv.stem import empty_pictures
from pytest_mlperf.engines.torch.onnx_graph import Node
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.onnx_graph import is_halving_pool

FP8_MAX = stem.FP8_MAX
HEADROOM = 2.0
"""Calibrated maxima are multiplied by this; larger values saturate."""
CALIBRATION_SAMPLES = 128
CONVOLUTIONS = ("Conv", "ConvRelu", "ConvAddRelu")
WIDE = 64
"""Channels, in and out, are multiples of this where a convolution runs in fp8."""


def observe_activations(graph: OnnxGraph) -> OnnxGraph:
    """Return the graph with the activations that need a scale as its outputs."""
    kinds = (*CONVOLUTIONS, "MaxPool")
    names = [node.outputs[0] for node in graph.nodes if node.kind in kinds]
    return OnnxGraph(graph.nodes, graph.constants, graph.inputs, tuple(names))


def quantize(graph: OnnxGraph, maxima: Mapping[str, float]) -> OnnxGraph:
    """Return the graph in fp8, given the largest magnitude of each activation.

    Raises ``BuildFailed`` where no convolution can run in fp8.
    """
    constants = dict(graph.constants)
    nodes: list[Node] = []
    scales: dict[str, float] = {}
    """fp8 value -> the factor that undoes its scale."""

    def add_scale(name: str) -> float:
        """Return the factor that scales a value to fp8."""
        scales[name] = max(maxima[name] * HEADROOM, 1e-6) / FP8_MAX
        return 1 / scales[name]

    def find_fp16(name: str) -> str:
        """Return a value's name as all other nodes read it: in fp16, as before."""
        if name not in scales:
            return name
        half = f"{name}/fp16"
        if all(half not in node.outputs for node in nodes):
            at = {"dequantize": scales[name]}
            nodes.append(Node("Dequantize", "", (name,), (half,), at))
        return half

    for node in graph.nodes:
        out = node.outputs[0]
        if node.kind == "MaxPool" and is_halving_pool(node.attributes, WIDE):
            at: dict[str, Any] = {"quantize": add_scale(out)}
            inputs: tuple[str, ...] = (find_fp16(node.inputs[0]),)
            nodes.append(Node("Fp8MaxPool", node.name, inputs, node.outputs, at))
            continue
        if node.kind in CONVOLUTIONS and node.inputs[0] in scales:
            weight = constants.get(node.inputs[1])
            add = node.kind == "ConvAddRelu"
            scaled = not add or node.inputs[3] in scales
            if weight is not None and scaled and _is_wide(node, weight):
                constants[f"{out}/fp8"], scale = _quantize_weight(weight)
                at = {
                    "kernel": weight.shape[2],
                    "stride": node.attributes.get("strides", [1, 1])[0],
                    "relu": node.kind != "Conv",
                    "dequantize": scale * scales[node.inputs[0]],
                    "shortcut_dequantize": scales[node.inputs[3]] if add else 0.0,
                    "quantize": add_scale(out),
                }
                inputs = (node.inputs[0], f"{out}/fp8", *node.inputs[2:])
                nodes.append(Node("Fp8Conv", node.name, inputs, node.outputs, at))
                continue
        inputs = tuple(find_fp16(name) for name in node.inputs)
        nodes.append(Node(node.kind, node.name, inputs, node.outputs, node.attributes))
    outputs = tuple(find_fp16(name) for name in graph.outputs)
    if not any(node.kind == "Fp8Conv" for node in nodes):
        raise BuildFailed(
            "the graph has no convolution of multiples of 64 channels after a pooling, "
            "which is what the engine torch runs in fp8; use --mlperf-precision fp16"
        )
    return OnnxGraph(nodes, constants, graph.inputs, outputs)


def _quantize_weight(weight: Any) -> tuple[Any, float]:
    """Return fp8 weights as [out, height, width, in], and their scale."""
    import torch

    scale = weight.abs().amax().item() / FP8_MAX
    low = (weight / scale).to(torch.float8_e4m3fn)
    return low.permute(0, 2, 3, 1).contiguous(), scale


def _is_wide(node: Node, weight: Any) -> bool:
    kernel = weight.shape[2]
    pads = set(node.attributes.get("pads", [0]))
    strides = node.attributes.get("strides", [1, 1])
    return (
        node.attributes.get("group", 1) == 1
        and weight.shape[0] % WIDE == 0
        and weight.shape[1] % WIDE == 0
        and kernel == weight.shape[3]
        and kernel in (1, 3)
        and pads == {kernel // 2}
        and set(node.attributes.get("dilations", [1])) == {1}
        and strides[0] == strides[1]
        and len(node.inputs) >= 3
    )


def choose_tile(
    in_channels: int, out_channels: int, kernel: int, *, add: bool
) -> dict[str, int]:
    """Return the tile of one convolution: the fastest of 15, as timed on an H200."""
    depth = WIDE if in_channels % 128 else 128
    if out_channels % 128 or (add and in_channels <= 128):
        # What moves more bytes than it computes wants many small programs.
        return {"M": 128, "N": 64, "K": 64, "num_warps": 4, "num_stages": 3}
    if kernel == 3 and in_channels >= 256 and out_channels % 256 == 0:
        return {"M": 128, "N": 256, "K": depth, "num_warps": 8, "num_stages": 3}
    if kernel == 1 and not add and out_channels > in_channels:
        return {"M": 128, "N": 128, "K": WIDE, "num_warps": 4, "num_stages": 4}
    return {"M": 128, "N": 128, "K": depth, "num_warps": 4, "num_stages": 3}


def calibrate(
    graph: OnnxGraph,
    device: Any,
    batches: Iterable[Batch],
    operators: Mapping[str, Any],
) -> tuple[OnnxGraph, int]:
    """Return the graph in fp8 and how many samples its ranges come from."""
    import torch

    observed = observe_activations(graph)
    program = Program(observed, device, torch.float16, operators)
    maxima: dict[str, float] = dict.fromkeys(observed.outputs, 0.0)
    count = 0
    pictures: set[str] = set()
    for batch in batches:
        pictures |= {n for n, a in batch.items() if a.dtype == np.int8 and a.ndim == 4}
        feeds = {n: torch.from_numpy(a).to(device) for n, a in batch.items()}
        for name, value in zip(observed.outputs, program.run(feeds), strict=True):
            maxima[name] = max(maxima[name], value.abs().max().item())
        count += len(next(iter(batch.values())))
        if count >= CALIBRATION_SAMPLES:
            break
    low = stem.replace_ends(quantize(graph, maxima), pictures)
    return tail.join_tails(low), count


def make_operators() -> dict[str, Any]:
    """Return the fp8 operators; values are [batch, channels, height, width] in
    channels-last memory, as everywhere in PyTorch.
    """
    import torch

    from pytest_mlperf.engines.torch.conv import kernels

    def conv(at: Any, x: Any, w: Any, b: Any, shortcut: Any = None) -> Any:
        batch, in_channels, height, width = x.shape
        kernel, stride, out_channels = at["kernel"], at["stride"], w.shape[0]
        out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
        shape = (batch, out_channels, out_height, out_width)
        out = empty_pictures(x, shape, torch.float8_e4m3fn)
        rows = batch * out_height * out_width
        add = shortcut is not None
        is_narrow = in_channels == out_channels == WIDE and not add
        if kernel == 3 and stride == 1 and is_narrow and at["relu"]:
            programs = 2 * launch.count_processors(x.device)
            kernels.convolve_narrow[(programs,)](
                x, w, b, out, rows, at["dequantize"], at["quantize"], HEIGHT=height,
                WIDTH=width, C=WIDE, M=64, PROGRAMS=programs,
                num_warps=4, num_stages=2,
            )  # fmt: skip
            return out
        if kernel == stride == 1 and at["relu"] and launch.is_available(x.device):
            streamed = launch.choose_tile(in_channels, out_channels, add=add)
            if streamed is not None:
                values = (x, w, b, shortcut)
                launch.run_pointwise(at, values, out, streamed)
                return out
        tile = choose_tile(in_channels, out_channels, kernel, add=add)
        grid = (-(-rows // tile["M"]) * (out_channels // tile["N"]),)
        kernels.convolve[grid](
            x, w, b, shortcut if add else x, out, rows, in_channels, out_channels,
            height, width, out_height, out_width, at["dequantize"],
            at["shortcut_dequantize"], at["quantize"], KERNEL=kernel, STRIDE=stride,
            ADD=add, RELU=at["relu"], GROUP=8, **tile,
        )  # fmt: skip
        return out

    def max_pool(at: Any, x: Any) -> Any:
        if x.shape[1] & (x.shape[1] - 1):
            pooled = torch.nn.functional.max_pool2d(x, 3, 2, 1).float()
            scaled = (pooled * at["quantize"]).clamp(-FP8_MAX, FP8_MAX)
            low = scaled.to(torch.float8_e4m3fn)
            return low.contiguous(memory_format=torch.channels_last)
        return stem.run_max_pool(x, torch.float8_e4m3fn, at["quantize"], FP8_MAX)

    def dequantize(at: Any, x: Any) -> Any:
        return x.to(torch.float16) * at["dequantize"]

    return {"Fp8Conv": conv, "Fp8MaxPool": max_pool, "Dequantize": dequantize}
