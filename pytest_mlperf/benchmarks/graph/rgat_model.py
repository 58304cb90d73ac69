"""R-GAT as an ONNX graph: graph attention for each relation, summed.

The layers of the reference (mlcommons/inference, graph/R-GAT, components.py): GATConv
with several heads for each relation, the sum over relations, leaky ReLU between layers,
and a linear head. A target's neighbors are gathered into a row, so that the attention
is a softmax over that row.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.core.whole_file import replace_whole

Floats = NDArray[np.float32]
ATTENTION_SLOPE, SLOPE = 0.2, 0.01
"""Of the leaky ReLU in GATConv, and between layers."""
NEVER = -1e30
OPSET = 17


@dataclass(frozen=True, slots=True)
class Attention:
    """One relation of one layer."""

    weight: Floats
    """[inputs, heads x units]"""
    source: Floats
    """[heads, units]: what a neighbor adds to the score of its edge."""
    target: Floats
    """[heads, units]"""
    bias: Floats
    """[heads x units]"""


@dataclass(frozen=True, slots=True)
class RgatWeights:
    """All weights."""

    layers: tuple[Mapping[str, Attention], ...]
    """Relation -> attention, the first layer first."""
    weight: Floats
    """[heads x units, classes]"""
    bias: Floats

    @property
    def relations(self) -> tuple[str, ...]:
        return tuple(self.layers[0])


def list_inputs(relations: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the graph's inputs."""
    parts = ("targets", "neighbors", "rows")
    return ("features", "seeds", *(f"{r}.{part}" for r in relations for part in parts))


def write_rgat(path: Path, weights: RgatWeights) -> None:
    """Write the graph: output ``scores`` float32 [batch, classes]."""
    import onnx
    from onnx import TensorProto
    from onnx import helper

    width = next(iter(weights.layers[0].values())).weight.shape[0]
    writer = _Writer()
    writer.constant("zero", np.int64(0))
    writer.constant("never", np.float32(NEVER))
    for name in ("1", "2", "3"):
        writer.constant(f"axis{name}", np.array([int(name)]))
    for relation in weights.relations:
        writer.add_mask(relation)
    x = "features"
    for number, layer in enumerate(weights.layers):
        sums = [
            writer.add_attention(f"{number}.{relation}", relation, x, one)
            for relation, one in layer.items()
        ]
        x = writer.node("Sum", sums, f"{number}.sum")
        if number < len(weights.layers) - 1:
            x = writer.node("LeakyRelu", [x], f"{number}.out", alpha=SLOPE)
    seeds = writer.node("Gather", [x, "seeds"], "nodes")
    product = writer.node(
        "MatMul", [seeds, writer.constant("head", weights.weight)], "product"
    )
    writer.node("Add", [product, writer.constant("head.bias", weights.bias)], "scores")
    shapes: dict[str, tuple[int, list[str | int]]] = {
        "features": (TensorProto.FLOAT, ["nodes", width]),
        "seeds": (TensorProto.INT64, ["batch"]),
    }
    for relation in weights.relations:
        count = f"{relation}.count"
        shapes[f"{relation}.targets"] = (TensorProto.INT64, [count])
        shapes[f"{relation}.neighbors"] = (TensorProto.INT64, [count, "fanout"])
        shapes[f"{relation}.rows"] = (TensorProto.INT64, ["nodes"])
    inputs = [helper.make_tensor_value_info(n, *value) for n, value in shapes.items()]
    output = helper.make_tensor_value_info(
        "scores", TensorProto.FLOAT, ["batch", len(weights.bias)]
    )
    graph = helper.make_graph(writer.nodes, "rgat", inputs, [output], writer.tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    )
    with replace_whole(path) as partial:
        onnx.save(model, str(partial))


class _Writer:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self.tensors.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], out: str, **options: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [out], **options))
        return out

    def add_mask(self, relation: str) -> None:
        """Tell neighbors from what fills a row; the same in every layer."""
        neighbors = f"{relation}.neighbors"
        self.node("GreaterOrEqual", [neighbors, "zero"], f"{relation}/is_edge")
        self.node("Unsqueeze", [f"{relation}/is_edge", "axis2"], f"{relation}/mask")
        self.node("Max", [neighbors, "zero"], f"{relation}/place")

    def add_attention(self, name: str, relation: str, x: str, one: Attention) -> str:
        """Append one relation of a layer; return what it adds to each node's row."""
        heads, units = one.source.shape
        weight = self.constant(f"{name}.weight", one.weight)
        split = self.constant(f"{name}.split", np.array([0, 0, heads, units]))
        split_target = self.constant(f"{name}.split3", np.array([0, heads, units]))
        merge = self.constant(f"{name}.merge", np.array([0, heads * units]))

        self.node("Gather", [x, f"{relation}/place"], f"{name}/x")
        self.node("MatMul", [f"{name}/x", weight], f"{name}/flat")
        values = self.node("Reshape", [f"{name}/flat", split], f"{name}/values")
        self.node("Gather", [x, f"{relation}.targets"], f"{name}/t")
        self.node("MatMul", [f"{name}/t", weight], f"{name}/tflat")
        targets = self.node("Reshape", [f"{name}/tflat", split_target], f"{name}/tv")

        source = self.constant(f"{name}.source", one.source)
        target = self.constant(f"{name}.target", one.target)
        self.node("Mul", [values, source], f"{name}/s*")
        self.node("ReduceSum", [f"{name}/s*", "axis3"], f"{name}/s", keepdims=0)
        self.node("Mul", [targets, target], f"{name}/t*")
        self.node("ReduceSum", [f"{name}/t*", "axis2"], f"{name}/te", keepdims=0)
        self.node("Unsqueeze", [f"{name}/te", "axis1"], f"{name}/t1")
        self.node("Add", [f"{name}/s", f"{name}/t1"], f"{name}/sum")
        self.node("LeakyRelu", [f"{name}/sum"], f"{name}/e", alpha=ATTENTION_SLOPE)
        self.node("Where", [f"{relation}/mask", f"{name}/e", "never"], f"{name}/m")
        self.node("Softmax", [f"{name}/m"], f"{name}/a", axis=1)
        self.node("Unsqueeze", [f"{name}/a", "axis3"], f"{name}/a4")
        self.node("Mul", [f"{name}/a4", values], f"{name}/av")
        self.node("ReduceSum", [f"{name}/av", "axis1"], f"{name}/o3", keepdims=0)
        self.node("Reshape", [f"{name}/o3", merge], f"{name}/o2")
        bias = self.constant(f"{name}.bias", one.bias)
        self.node("Add", [f"{name}/o2", bias], f"{name}/o")
        rows = np.stack([np.zeros_like(one.bias), one.bias])
        table = [self.constant(f"{name}.rows", rows), f"{name}/o"]
        self.node("Concat", table, f"{name}/table", axis=0)
        return self.node("Gather", [f"{name}/table", f"{relation}.rows"], f"{name}/out")
