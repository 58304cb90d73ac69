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

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.benchmarks.onnx_writer import FLOAT
from pytest_mlperf.benchmarks.onnx_writer import INT64
from pytest_mlperf.benchmarks.onnx_writer import OnnxWriter
from pytest_mlperf.benchmarks.onnx_writer import TensorType
from pytest_mlperf.benchmarks.onnx_writer import write_onnx

Floats = NDArray[np.float32]
ATTENTION_SLOPE, SLOPE = 0.2, 0.01
"""Of the leaky ReLU in GATConv, and between layers."""
NEVER = -1e30


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
    width = next(iter(weights.layers[0].values())).weight.shape[0]
    graph = RgatGraph()
    graph.constant("zero", np.int64(0))
    graph.constant("never", np.float32(NEVER))
    for name in ("1", "2", "3"):
        graph.constant(f"axis{name}", np.array([int(name)]))
    for relation in weights.relations:
        graph.add_mask(relation)
    x = "features"
    for number, layer in enumerate(weights.layers):
        sums = [
            graph.add_attention(f"{number}.{relation}", relation, x, one)
            for relation, one in layer.items()
        ]
        x = graph.node("Sum", sums, f"{number}.sum")
        if number < len(weights.layers) - 1:
            x = graph.node("LeakyRelu", [x], f"{number}.out", alpha=SLOPE)
    seeds = graph.node("Gather", [x, "seeds"], "nodes")
    product = graph.node(
        "MatMul", [seeds, graph.constant("head", weights.weight)], "product"
    )
    graph.node("Add", [product, graph.constant("head.bias", weights.bias)], "scores")
    inputs: dict[str, TensorType] = {
        "features": (FLOAT, ["nodes", width]),
        "seeds": (INT64, ["batch"]),
    }
    for relation in weights.relations:
        count = f"{relation}.count"
        inputs[f"{relation}.targets"] = (INT64, [count])
        inputs[f"{relation}.neighbors"] = (INT64, [count, "fanout"])
        inputs[f"{relation}.rows"] = (INT64, ["nodes"])
    outputs: dict[str, TensorType] = {"scores": (FLOAT, ["batch", len(weights.bias)])}
    write_onnx(path, graph.make_model("rgat", inputs, outputs))


class RgatGraph(OnnxWriter):
    """The parts that all relations and layers have."""

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
