"""Writes the dense parts of DLRM and DCNv2 as ONNX files, from weights by name.

Weights: ``bottom.N`` and ``top.N`` are the MLPs' layers, ``cross.N`` the low-rank
cross layers of DCNv2; each has ``.weight`` [in, out] and ``.bias``, a cross layer also
``.down`` [width, rank] before ``.weight`` [rank, width].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float32]]
OPSET = 17
DENSE, VECTORS, SCORES = "dense", "embeddings", "scores"
"""Inputs and output of the graphs."""


def count_layers(weights: Weights, part: str) -> int:
    """Return how many layers a part (``bottom``, ``cross``, ``top``) has."""
    return sum(f"{part}.{n}.weight" in weights for n in range(len(weights)))


class _Writer:
    """Collects nodes and constants under names."""

    def __init__(self, weights: Weights) -> None:
        from onnx import helper
        from onnx import numpy_helper

        self.helper = helper
        self.constant_of = numpy_helper.from_array
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants = [
            self.constant_of(np.ascontiguousarray(v, np.float32), k)
            for k, v in weights.items()
        ]

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(
            self.helper.make_node(kind, inputs, [name], name=name, **attributes)
        )
        return name

    def integers(self, name: str, values: Any) -> str:
        self.constants.append(self.constant_of(np.asarray(values, np.int64), name))
        return name

    def mlp(self, part: str, value: str, *, ends_linear: bool) -> str:
        count = count_layers(self.weights, part)
        for n in range(count):
            name = f"{part}.{n}"
            value = self.add("MatMul", [value, f"{name}.weight"], f"{name}.product")
            value = self.add("Add", [value, f"{name}.bias"], f"{name}.sum")
            if n < count - 1 or not ends_linear:
                value = self.add("Relu", [value], f"{name}.relu")
        return value

    def cross(self, first: str) -> str:
        value = first
        for n in range(count_layers(self.weights, "cross")):
            name = f"cross.{n}"
            low = self.add("MatMul", [value, f"{name}.down"], f"{name}.low")
            high = self.add("MatMul", [low, f"{name}.weight"], f"{name}.high")
            high = self.add("Add", [high, f"{name}.bias"], f"{name}.sum")
            scaled = self.add("Mul", [first, high], f"{name}.scaled")
            value = self.add("Add", [scaled, value], f"{name}.out")
        return value


def write_recommender(path: Path, weights: Weights, tables: int) -> None:
    """Write DCNv2 where there are cross layers, else DLRM with dot interaction.

    Inputs: ``dense`` float32 [pairs, numbers], ``embeddings`` float32 [pairs, tables,
    dimension]. Output: ``scores`` float32 [pairs], probabilities.
    """
    import onnx
    from onnx import TensorProto
    from onnx import helper

    writer = _Writer(weights)
    numbers = len(weights["bottom.0.weight"])
    last = count_layers(weights, "bottom") - 1
    dimension = weights[f"bottom.{last}.weight"].shape[1]
    bottom = writer.mlp("bottom", DENSE, ends_linear=False)
    row = writer.integers("one_row", [0, 1, dimension])
    rows = writer.add("Reshape", [bottom, row], "bottom.row")
    joined = writer.add("Concat", [rows, VECTORS], "features", axis=1)
    width = (tables + 1) * dimension
    if count_layers(weights, "cross"):
        flat = writer.integers("flat", [0, width])
        value = writer.cross(writer.add("Reshape", [joined, flat], "features.flat"))
    else:
        turned = writer.add("Transpose", [joined], "features.turned", perm=[0, 2, 1])
        dots = writer.add("MatMul", [joined, turned], "dots")
        flat = writer.integers("flat", [0, (tables + 1) ** 2])
        dots = writer.add("Reshape", [dots, flat], "dots.flat")
        below = writer.integers("below", lower_triangle(tables + 1))
        dots = writer.add("Gather", [dots, below], "interaction", axis=1)
        value = writer.add("Concat", [bottom, dots], "interaction.all", axis=1)
    value = writer.mlp("top", value, ends_linear=True)
    value = writer.add("Sigmoid", [value], "probability")
    writer.add("Reshape", [value, writer.integers("all", [-1])], SCORES)
    kinds: list[tuple[str, list[Any]]] = [
        (DENSE, ["pairs", numbers]),
        (VECTORS, ["pairs", tables, dimension]),
        (SCORES, ["pairs"]),
    ]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in kinds
    ]
    graph = helper.make_graph(
        writer.nodes, "recommender", infos[:2], infos[2:], writer.constants
    )
    opsets = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def lower_triangle(count: int) -> NDArray[np.int64]:
    """Return the flat places below the diagonal of [count, count], row by row."""
    rows, columns = np.tril_indices(count, -1)
    return np.asarray(rows * count + columns, np.int64)
