"""Gives convolutions of an fp8 net to kernels of CUDA C++ for sm_90, several to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_mlperf.engines.torch import cuda_source
from pytest_mlperf.engines.torch.conv import block
from pytest_mlperf.engines.torch.conv import resident
from pytest_mlperf.engines.torch.conv import tail_next
from pytest_mlperf.engines.torch.kernel_options import KernelChoice
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph

KINDS = ("ResidualBlock", "TailNext", "ResidentConv")


def find_missing() -> str | None:
    """Return what keeps the kernels from running on the device at hand, or None."""
    import torch

    missing = cuda_source.find_missing()
    found = torch.cuda.get_device_capability()
    # The only one whose matrix units are told so (wgmma).
    if missing is None and found != cuda_source.HOPPER:
        missing = f"compute capability {found[0]}.{found[1]} instead of 9.0"
    return missing


def join(graph: OnnxGraph) -> OnnxGraph:
    """Return an fp8 graph whose narrow blocks and tails are one node each."""
    return resident.keep_weights(tail_next.join_next(block.join_blocks(graph)))


def has_joined(graph: OnnxGraph) -> bool:
    """Tell whether a graph that ``join`` returned has nodes for these kernels."""
    return any(node.kind in KINDS for node in graph.nodes)


def make_operators(parts: Mapping[str, Any], choice: KernelChoice) -> dict[str, Any]:
    """Return the operators of these nodes; ``parts`` are those of the nodes before,
    which run where ``choice`` is Triton's kernels.
    """
    blocks = block.make_operators(parts, choice)
    blocks |= tail_next.make_operators(parts, choice)
    return blocks | resident.make_operators(parts, choice)
