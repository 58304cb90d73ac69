"""The official 3D U-Net as an ONNX graph with generated weights.

Architecture: mlcommons/training, retired_benchmarks/unet3d, model/unet3d.py: five
widths, convolutions of 3 voxels with instance normalization and ReLU, halved by
strides, doubled by transposed convolutions, 31 million parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.standins.graphs import GraphWriter
from pytest_mlperf.benchmarks.standins.graphs import write_model

WIDTHS = (32, 64, 128, 256, 320, 320)
"""Channels of each level, the full resolution first."""
CLASSES = 3


def write_unet(path: Path, widths: Sequence[int] = WIDTHS, side: int = 128) -> None:
    """Write the graph: ``input`` float32 [windows, 1, side, side, side], ``output``
    [windows, 3, side, side, side]. ``side`` is a multiple of 2 ** (levels - 1).
    """

    def draw(g: GraphWriter) -> None:
        x, into = "input", 1
        levels: list[str] = []
        for level, width in enumerate(widths):
            name = f"down{level}"
            x = add_block(g, f"{name}.a", x, (width, into), 2 if level else 1)
            x = add_block(g, f"{name}.b", x, (width, width))
            levels.append(x)
            into = width
        for level in reversed(range(len(widths) - 1)):
            name, width = f"up{level}", widths[level]
            weight = g.normal(f"{name}.weight", into, width, 2, 2, 2, spread=0.05)
            x = g.node("ConvTranspose", (x, weight), name, kernel_shape=(2, 2, 2),
                       strides=(2, 2, 2))  # fmt: skip
            x = g.node("Concat", (x, levels[level]), f"{name}/both", axis=1)
            x = add_block(g, f"{name}.a", x, (width, 2 * width))
            x = add_block(g, f"{name}.b", x, (width, width))
            into = width
        weight = g.normal("head.weight", CLASSES, into, 1, 1, 1, spread=0.1)
        bias = g.normal("head.bias", CLASSES)
        g.node("Conv", (x, weight, bias), "output", kernel_shape=(1, 1, 1))

    shapes = {
        name: (FLOAT, ("windows", channels, side, side, side))
        for name, channels in (("input", 1), ("output", CLASSES))
    }
    write_model(path, draw, {"input": shapes["input"]}, {"output": shapes["output"]})


def add_block(
    g: GraphWriter, name: str, x: str, widths: tuple[int, int], stride: int = 1
) -> str:
    """Append a convolution (out, in), its instance normalization and ReLU."""
    out, into = widths
    spread = float(np.sqrt(2 / (into * 27)))
    weight = g.normal(f"{name}.weight", out, into, 3, 3, 3, spread=spread)
    g.node("Conv", (x, weight), name, kernel_shape=(3, 3, 3), strides=(stride,) * 3,
           pads=(1,) * 6)  # fmt: skip
    scale = g.weight(f"{name}.norm.weight", np.ones(out, np.float32))
    shift = g.normal(f"{name}.norm.bias", out)
    g.node("InstanceNormalization", (name, scale, shift), f"{name}.norm", epsilon=1e-5)
    return g.node("Relu", (f"{name}.norm",), f"{name}/relu")
