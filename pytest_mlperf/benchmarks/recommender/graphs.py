"""Writes the dense parts of DLRM and DCNv2 as ONNX files, from weights by name.

Weights: ``bottom.N`` and ``top.N`` are the MLPs' layers, ``cross.N`` the low-rank
cross layers of DCNv2; each has ``.weight`` [in, out] and ``.bias``, a cross layer also
``.down`` [width, rank] before ``.weight`` [rank, width].
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.onnx_writer import OnnxWriter
from pytest_mlperf.benchmarks.onnx_writer import TensorType
from pytest_mlperf.benchmarks.onnx_writer import write_onnx

Weights = Mapping[str, NDArray[np.float32]]
DENSE, VECTORS, SCORES = "dense", "embeddings", "scores"
"""Inputs and output of the graphs."""


def count_layers(weights: Weights, part: str) -> int:
    """Return how many layers a part (``bottom``, ``cross``, ``top``) has."""
    return sum(f"{part}.{n}.weight" in weights for n in range(len(weights)))


class RecommenderGraph(OnnxWriter):
    """The parts that DLRM and DCNv2 are made of; a node has its output's name."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        for name, values in weights.items():
            self.constant(name, np.ascontiguousarray(values, np.float32))

    def node(
        self, kind: str, inputs: Sequence[str], output: str, **attributes: Any
    ) -> str:
        return super().node(kind, inputs, output, name=output, **attributes)

    def integers(self, name: str, values: Any) -> str:
        return self.constant(name, np.asarray(values, np.int64))

    def mlp(self, part: str, value: str, *, ends_linear: bool) -> str:
        count = count_layers(self.weights, part)
        for n in range(count):
            name = f"{part}.{n}"
            value = self.node("MatMul", [value, f"{name}.weight"], f"{name}.product")
            value = self.node("Add", [value, f"{name}.bias"], f"{name}.sum")
            if n < count - 1 or not ends_linear:
                value = self.node("Relu", [value], f"{name}.relu")
        return value

    def cross(self, first: str) -> str:
        value = first
        for n in range(count_layers(self.weights, "cross")):
            name = f"cross.{n}"
            low = self.node("MatMul", [value, f"{name}.down"], f"{name}.low")
            high = self.node("MatMul", [low, f"{name}.weight"], f"{name}.high")
            high = self.node("Add", [high, f"{name}.bias"], f"{name}.sum")
            scaled = self.node("Mul", [first, high], f"{name}.scaled")
            value = self.node("Add", [scaled, value], f"{name}.out")
        return value


def write_recommender(path: Path, weights: Weights, tables: int) -> None:
    """Write DCNv2 where there are cross layers, else DLRM with dot interaction.

    Inputs: ``dense`` float32 [pairs, numbers], ``embeddings`` float32 [pairs, tables,
    dimension]. Output: ``scores`` float32 [pairs], probabilities.
    """
    graph = RecommenderGraph(weights)
    numbers = len(weights["bottom.0.weight"])
    last = count_layers(weights, "bottom") - 1
    dimension = weights[f"bottom.{last}.weight"].shape[1]
    bottom = graph.mlp("bottom", DENSE, ends_linear=False)
    row = graph.integers("one_row", [0, 1, dimension])
    rows = graph.node("Reshape", [bottom, row], "bottom.row")
    joined = graph.node("Concat", [rows, VECTORS], "features", axis=1)
    width = (tables + 1) * dimension
    if count_layers(weights, "cross"):
        flat = graph.integers("flat", [0, width])
        value = graph.cross(graph.node("Reshape", [joined, flat], "features.flat"))
    else:
        turned = graph.node("Transpose", [joined], "features.turned", perm=[0, 2, 1])
        dots = graph.node("MatMul", [joined, turned], "dots")
        flat = graph.integers("flat", [0, (tables + 1) ** 2])
        dots = graph.node("Reshape", [dots, flat], "dots.flat")
        below = graph.integers("below", lower_triangle(tables + 1))
        dots = graph.node("Gather", [dots, below], "interaction", axis=1)
        value = graph.node("Concat", [bottom, dots], "interaction.all", axis=1)
    value = graph.mlp("top", value, ends_linear=True)
    value = graph.node("Sigmoid", [value], "probability")
    graph.node("Reshape", [value, graph.integers("all", [-1])], SCORES)
    inputs: dict[str, TensorType] = {
        DENSE: (FLOAT, ["pairs", numbers]),
        VECTORS: (FLOAT, ["pairs", tables, dimension]),
    }
    outputs = {SCORES: (FLOAT, ["pairs"])}
    write_onnx(path, graph.make_model("recommender", inputs, outputs))


def lower_triangle(count: int) -> NDArray[np.int64]:
    """Return the flat places below the diagonal of [count, count], row by row."""
    rows, columns = np.tril_indices(count, -1)
    return np.asarray(rows * count + columns, np.int64)
