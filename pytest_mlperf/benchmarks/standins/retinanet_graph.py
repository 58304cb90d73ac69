"""The official RetinaNet as an ONNX graph with generated weights.

Architecture: mlcommons/training, single_stage_detector, model/retinanet.py with the
backbone resnext50_32x4d: a feature pyramid of five levels on the last three stages, and
two heads of four convolutions that all levels share. The graph picks each level's best
candidates, as the reference does before suppression, so that few numbers leave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.onnx_writer import INT8
from pytest_mlperf.benchmarks.onnx_writer import INT64
from pytest_mlperf.benchmarks.standins.graphs import GraphWriter
from pytest_mlperf.benchmarks.standins.graphs import add_convolution
from pytest_mlperf.benchmarks.standins.graphs import write_model

STRIDES = (8, 16, 32, 64, 128)
ANCHORS = 9
"""Of a cell: three sizes in three aspect ratios."""
OUTPUTS = ("logits", "anchors", "labels", "deltas")
CANDIDATES = ("anchors", "labels")
"""What tells a candidate from another."""
RARE = -4.6
"""Bias of the class head: an untrained one calls 1 % of the anchors an object."""
LAST_SPREAD = 0.0021
"""Of the heads' last weights: some hundred candidates of a picture exceed a score of
0.05, as a trained detector's do."""


@dataclass(frozen=True, slots=True)
class RetinaNetSize:
    """Hyperparameters of a RetinaNet; those of the official one."""

    side: int = 800
    classes: int = 264
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    groups: int = 32
    width: int = 256
    """Channels of the pyramid and the heads."""
    candidates: int = 1000
    """That each level keeps."""

    @property
    def cells(self) -> tuple[int, ...]:
        """Return the cells along a side of each level: 100, 50, 25, 13, 7."""
        return tuple(-(-self.side // stride) for stride in STRIDES)


def write_retinanet(path: Path, size: RetinaNetSize) -> None:
    """Write RetinaNet for pictures less the means: int8 [batch, side, side, 3].

    Outputs have a column for each candidate, level after level: its class's logit,
    anchor and label (from 0), and the anchor's four box deltas.
    """

    def draw(g: GraphWriter) -> None:
        g.node("Cast", ("pictures",), "float", to=FLOAT)
        g.node("Transpose", ("float",), "image", perm=(0, 3, 1, 2))
        stages = add_resnext(g, "image", size)
        levels = add_pyramid(g, stages, size)
        add_heads(g, levels, size)

    count = size.candidates * len(STRIDES)
    shape = ("batch", size.side, size.side, 3)
    outputs = {
        "logits": (FLOAT, ("batch", count)),
        "anchors": (INT64, ("batch", count)),
        "labels": (INT64, ("batch", count)),
        "deltas": (FLOAT, ("batch", count, 4)),
    }
    write_model(path, draw, {"pictures": (INT8, shape)}, outputs)


def add_resnext(g: GraphWriter, x: str, size: RetinaNetSize) -> list[tuple[str, int]]:
    """Append the backbone; return output and channels of its last three stages."""
    stem = size.width // 4
    x = add_convolution(g, "stem", x, (stem, 3, 7), 2, gain=2.0 / 64**2)
    x = g.node("MaxPool", (x,), "pooled", kernel_shape=(3, 3), strides=(2, 2),
               pads=(1, 1, 1, 1))  # fmt: skip
    into, stages = stem, []
    for stage, count in enumerate(size.blocks):
        middle, out = size.width // 2 << stage, size.width << stage
        for number in range(count):
            name, stride = f"stage{stage}.{number}", 2 if number == 0 and stage else 1
            y = add_convolution(g, f"{name}.a", x, (middle, into, 1))
            y = add_convolution(
                g, f"{name}.b", y, (middle, middle, 3), stride, groups=size.groups
            )
            y = add_convolution(
                g, f"{name}.c", y, (out, middle, 1), relu=False, gain=0.2
            )
            if into != out or stride != 1:
                x = add_convolution(
                    g, f"{name}.d", x, (out, into, 1), stride, relu=False, gain=1.0
                )
            g.node("Add", (y, x), f"{name}/sum")
            x, into = g.node("Relu", (f"{name}/sum",), f"{name}/relu"), out
        stages.append((x, out))
    return stages[1:]


def add_pyramid(
    g: GraphWriter, stages: list[tuple[str, int]], size: RetinaNetSize
) -> list[str]:
    """Append lateral, top-down and extra convolutions; return the five levels."""
    width, cells = size.width, size.cells
    levels: list[str] = []
    above = ""
    for level in (2, 1, 0):
        x, channels = stages[level]
        y = add_convolution(
            g, f"lateral{level}", x, (width, channels, 1), relu=False, gain=1.0
        )
        if above:
            above = double(g, f"double{level}", above, width, cells[level + 1])
            y = g.node("Add", (y, above), f"lateral{level}/sum")
        above = y
        shape = (width, width, 3)
        name = f"pyramid{level}"
        levels.insert(0, add_convolution(g, name, y, shape, relu=False, gain=1.0))
    x = levels[-1]
    for level in (3, 4):
        shape = (width, width, 3)
        x = add_convolution(g, f"pyramid{level}", x, shape, 2, relu=False, gain=1.0)
        levels.append(x)
        x = g.node("Relu", (x,), f"pyramid{level}/relu")
    return levels


def double(g: GraphWriter, name: str, x: str, width: int, cells: int) -> str:
    """Repeat every cell twice along both axes: nearest, without a Resize operator."""
    shapes = {
        "split": [0, width, cells, 1, cells, 1],
        "repeated": [1, width, cells, 2, cells, 2],
        "merged": [0, width, 2 * cells, 2 * cells],
    }
    for key, shape in shapes.items():
        g.constant(f"{name}/{key}", np.array(shape))
    g.node("Reshape", (x, f"{name}/split"), f"{name}/cells")
    g.node("Expand", (f"{name}/cells", f"{name}/repeated"), f"{name}/expanded")
    return g.node("Reshape", (f"{name}/expanded", f"{name}/merged"), name)


def add_heads(g: GraphWriter, levels: list[str], size: RetinaNetSize) -> None:
    """Append both heads, which all levels share, and each level's best candidates."""
    width = size.width
    for head, count in (("class", size.classes), ("box", 4)):
        spread = float(np.sqrt(2 / (9 * width)))
        for number in range(4):
            g.normal(f"{head}.{number}.weight", width, width, 3, 3, spread=spread)
            g.normal(f"{head}.{number}.bias", width)
        g.normal(f"{head}.4.weight", ANCHORS * count, width, 3, 3, spread=LAST_SPREAD)
        bias = RARE if head == "class" else 0
        g.weight(f"{head}.4.bias", np.full(ANCHORS * count, bias, np.float32))
    g.constant("classes", np.int64(size.classes))
    g.constant("last", np.array([-1]))
    g.constant("four", np.array([1, 1, 4]))
    g.constant("candidates", np.array([size.candidates]))
    parts: dict[str, list[str]] = {name: [] for name in OUTPUTS}
    first = 0
    for level, x in enumerate(levels):
        g.constant(f"first{level}", np.int64(first))
        found = add_candidates(g, f"level{level}", x, level)
        for name, value in zip(OUTPUTS, found, strict=True):
            parts[name].append(value)
        first += size.cells[level] ** 2 * ANCHORS
    for name in OUTPUTS:
        g.node("Concat", parts[name], name, axis=1)


def add_candidates(g: GraphWriter, name: str, x: str, level: int) -> tuple[str, ...]:
    """Append a level's heads and its best candidates; return the four outputs."""
    flat = {}
    for head in ("class", "box"):
        y = x
        for number in range(5):
            out = f"{name}.{head}.{number}"
            inputs = (y, f"{head}.{number}.weight", f"{head}.{number}.bias")
            y = g.node("Conv", inputs, out, kernel_shape=(3, 3), pads=(1,) * 4)
            if number < 4:
                y = g.node("Relu", (y,), f"{out}/relu")
        g.node("Transpose", (y,), f"{y}/last", perm=(0, 2, 3, 1))
        shape = [0, -1] if head == "class" else [0, -1, 4]
        g.constant(f"{y}/shape", np.array(shape))
        flat[head] = g.node("Reshape", (f"{y}/last", f"{y}/shape"), f"{y}/flat")
    logits, places = f"{name}/logits", f"{name}/places"
    g.add("TopK", [flat["class"], "candidates"], [logits, places])
    g.node("Div", (places, "classes"), f"{name}/own")
    g.node("Mul", (f"{name}/own", "classes"), f"{name}/begin")
    labels = g.node("Sub", (places, f"{name}/begin"), f"{name}/labels")
    g.node("Unsqueeze", (f"{name}/own", "last"), f"{name}/column")
    g.node("Expand", (f"{name}/column", "four"), f"{name}/columns")
    deltas = g.node(
        "GatherElements", (flat["box"], f"{name}/columns"), f"{name}/deltas", axis=1
    )
    anchors = g.node("Add", (f"{name}/own", f"first{level}"), f"{name}/anchors")
    return logits, anchors, labels, deltas
