"""The graphs that TensorRT gets, run by onnxruntime: precision is decided in them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.benchmarks.bert import BERT
from pytest_mlperf.benchmarks.resnet50 import RESNET50
from pytest_mlperf.engines.calibration import Calibration
from pytest_mlperf.engines.calibration import read_calibration
from pytest_mlperf.engines.tensorrt import onnx_model

BATCH = 30
GATES = {"99": 0.99, "99.9": 0.999}


@dataclass(frozen=True)
class World:
    """A workload and the graphs made of it, kept for all tests."""

    workload: TensorWorkload
    folder: Path
    sessions: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def calibration(self) -> Calibration:
        """The set that was checked, which every quantised graph is made with."""
        return read_calibration(self.workload, "int8")

    def graph(self, precision: str) -> Path:
        chosen = None
        if precision in onnx_model.QUANTIZED:
            chosen = self.calibration
        return onnx_model.write_model(self.workload, precision, chosen, self.folder)

    def outputs(self, precision: str, indices: list[int]) -> Sequence[Array]:
        """Return a batch's outputs of the graph in a precision."""
        if precision not in self.sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = len(os.sched_getaffinity(0))
            # A thread that waits would use as much of a CPU as one that works.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            # As it stands: fused kernels would compute in other types.
            options.graph_optimization_level = (
                onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            )
            graph = self.graph(precision)
            self.sessions[precision] = onnxruntime.InferenceSession(graph, options)
        names = list(model_file(self.workload, "tensorrt").outputs)
        batch = self.workload.dataset.gather(indices)
        found: Sequence[Array] = self.sessions[precision].run(names, batch)
        return found

    def score(self, precision: str) -> float:
        """Return the share of the fp32 reference's accuracy over the whole set."""
        total, answers = self.workload.dataset.total, {}
        lengths = self.workload.dataset.lengths
        # Neighbours of one length: padding to the longest is most of the work else.
        order = range(total) if lengths is None else np.argsort(lengths).tolist()
        for start in range(0, total, BATCH):
            indices = list(order[start : start + BATCH])
            outputs = self.outputs(precision, indices)
            rows, sizes, _ = self.workload.respond(outputs, indices)
            for place, index in enumerate(indices):
                raw = rows[place].tobytes()
                answers[index] = raw[: sizes[place]] if sizes else raw
        (metric, wanted), *_ = self.workload.reference.items()
        return self.workload.score(answers)[metric] / wanted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(
        RESNET50.open_workload("embedded", None), tmp_path_factory.mktemp("pictures")
    )


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(
        BERT.open_workload("embedded", None), tmp_path_factory.mktemp("questions")
    )


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def kinds(path: Path) -> set[Any]:
    """Return the types of a graph's floating-point weights of more than one number."""
    graph = onnx.load(path).graph
    float_kinds = {
        getattr(onnx.TensorProto, name): name
        for name in ("FLOAT", "FLOAT16", "FLOAT8E4M3FN", "INT8")
    }
    return {
        float_kinds[tensor.data_type]
        for tensor in graph.initializer
        if tensor.data_type in float_kinds and len(tensor.dims) > 1
    }


def test_fp16_passes_the_gate_of_99_9_on_questions(questions: World) -> None:
    """It is what both targets run in, where nobody asks for other."""
    assert questions.score("fp16") >= GATES["99.9"]
    assert kinds(questions.graph("fp16")) == {"FLOAT16"}


def test_fp16_passes_the_gate_of_99_9_on_pictures(pictures: World) -> None:
    """Inputs and outputs stay fp32, all weights are fp16."""
    graph = onnx.load(pictures.graph("fp16")).graph

    assert pictures.score("fp16") >= GATES["99.9"]
    assert kinds(pictures.graph("fp16")) == {"FLOAT16"}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_int8_passes_the_gate_of_99(pictures: World) -> None:
    """With scales from pictures that are not evaluated."""
    assert pictures.score("int8") >= GATES["99"]


@pytest.mark.parametrize(
    ("precision", "kind"), [("int8", "INT8"), ("fp8", "FLOAT8E4M3FN")]
)
def test_a_quantised_graph_says_so_in_itself(
    pictures: World, precision: str, kind: str
) -> None:
    """Every product reads dequantised weights and inputs, and only symmetric ones."""
    path = pictures.graph(precision)
    graph = onnx.load(path).graph
    makers = {out: node.op_type for node in graph.node for out in node.output}
    zeros = {
        node.input[2] for node in graph.node if node.op_type.endswith("quantizeLinear")
    }
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}

    assert kinds(path) == {kind}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            assert [makers[n] for n in node.input[:2]] == ["DequantizeLinear"] * 2
    assert zeros
    assert not any(np.any(values[name].astype(np.float32)) for name in zeros)


def test_fp8_agrees_with_fp32(pictures: World) -> None:
    """Mostly the same winner (26 of 30): a wrong scale would leave none of them."""
    every = list(range(0, pictures.workload.dataset.total, 9))
    (wanted,), (found,) = (pictures.outputs(p, every) for p in ("fp32", "fp8"))

    assert np.mean(wanted.argmax(axis=1) == found.argmax(axis=1)) >= 0.8


def test_fp32_is_left_alone(pictures: World) -> None:
    """Constants are folded, nothing else: no cast is left."""
    graph = operators(pictures.graph("fp32"))

    assert not graph["Cast"]
    assert kinds(pictures.graph("fp32")) == {"FLOAT"}


def test_a_graph_is_made_once(pictures: World) -> None:
    """The second time it is found; another calibration set makes another."""
    first = pictures.graph("int8")
    stamp = first.stat().st_mtime_ns
    other = Calibration("other", 1, "")

    assert pictures.graph("int8") == first
    assert first.stat().st_mtime_ns == stamp
    assert not list(pictures.folder.glob("*.making"))
    assert not list(pictures.folder.glob("*.folded"))
    assert other.digest != pictures.calibration.digest
