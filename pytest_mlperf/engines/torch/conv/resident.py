"""A 3x3 convolution of 128 channels as a kernel of CUDA C++ that keeps its weights."""

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

SOURCE = Path(__file__).with_name("resident.cu")
CHANNELS, GROUPS = 128, 4
KERNEL = RowKernel(SOURCE, "convolve_resident", ("dequantize", "quantize"))
MOST_SHARED = 227 << 10
"""Bytes of shared memory that a program may have on sm_90."""


def make_defines(height: int, width: int) -> dict[str, int]:
    """Return what the source is compiled with."""
    return {"HEIGHT": height, "WIDTH": width, "GROUPS": GROUPS}


def count_shared_bytes(defines: Mapping[str, int]) -> int:
    """Return the bytes of a program, as resident.cu lays them out."""
    places = BLOCK * defines["GROUPS"] + 2 * (defines["WIDTH"] + 2)
    places += (13 - places % 8) % 8
    return CHANNELS * (9 * CHANNELS + 4 + 2 * places)


def arrange_weights(weight: Any) -> Any:
    """Return weights as the kernel's shared memory has them: fp8 [bytes].

    ``weight`` [128, 3, 3, 128]: fp8, output channels first.
    """
    import torch

    half = fp8_rows.make_columns(fp8_rows.order_words())
    columns = torch.cat([half, half + BLOCK])
    taps = weight.view(torch.uint8).flatten(1, 2)[columns]
    parts = taps.reshape(CHANNELS, 9, CHANNELS // 16, 16).permute(1, 2, 0, 3)
    return parts.reshape(-1).view(torch.float8_e4m3fn)


def arrange_biases(bias: Any) -> Any:
    """Return biases in the order in which threads use them."""
    import torch

    words = fp8_rows.order_words().flatten()
    return torch.cat([part[words] for part in bias.split(BLOCK)])


def keep_weights(graph: OnnxGraph) -> OnnxGraph:
    """Return an fp8 graph with ``ResidentConv`` nodes where the kernel has room.

    A node's inputs are x, weights and biases as the kernel has them, and as they were.
    """
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        if node.kind == "Fp8Conv" and len(node.inputs) == 3:
            x, weight, bias = node.inputs
            square = [CHANNELS, 3, 3, CHANNELS]
            at = node.attributes
            is_square = list(constants[weight].shape) == square
            if is_square and at["stride"] == 1 and at["relu"]:
                arranged = (f"{weight}/resident", f"{bias}/resident")
                constants[arranged[0]] = arrange_weights(constants[weight])
                constants[arranged[1]] = arrange_biases(constants[bias])
                inputs = (x, *arranged, weight, bias)
                node = Node("ResidentConv", node.name, inputs, node.outputs, at)
        nodes.append(node)
    return OnnxGraph(nodes, constants, graph.inputs, graph.outputs)


def run_resident(at: Mapping[str, Any], x: Any, weights: Any, biases: Any) -> Any:
    """Return fp8 [batch, 128, height, width], channels last, as ``x`` is."""
    batch, _, height, width = x.shape
    defines = make_defines(height, width)
    (out,) = make_results(x, (height, width), CHANNELS)
    shared = count_shared_bytes(defines)
    KERNEL.launch(at, defines, shared, (x, weights, biases, out), batch)
    return out


def run_apart(parts: Mapping[str, Any], at: Mapping[str, Any], *inputs: Any) -> Any:
    """Return what the kernel does, by ``Fp8Conv`` of ``parts``."""
    x, _, _, weight, bias = inputs
    return parts["Fp8Conv"](at, x, weight, bias)


def make_operators(parts: Mapping[str, Any], choice: KernelChoice) -> dict[str, Any]:
    """Return ``ResidentConv``; ``parts`` has ``Fp8Conv``, for wider pictures."""

    def resident_conv(at: Any, *inputs: Any) -> Any:
        x, weights, biases = inputs[:3]
        defines = make_defines(x.shape[2], x.shape[3])
        if not x.is_cuda or count_shared_bytes(defines) > MOST_SHARED:
            return run_apart(parts, at, *inputs)
        return choice.run(
            lambda: run_resident(at, x, weights, biases),
            lambda: run_apart(parts, at, *inputs),
        )

    return {"ResidentConv": resident_conv}
