"""What the scripts share that make the embedded models: halved weights, the score."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx import helper
from onnx import numpy_helper

from pytest_mlperf.benchmarks.unet_3d import UNET_3D

SCRIPT = "embedded_model.py"


def test_halved_weights_compute_in_fp32(script: ModuleType) -> None:
    """Only large tensors of two axes or more are halved, and rounded once."""
    weight = np.linspace(-1, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    bias = np.linspace(0, 1, 512, dtype=np.float32)[:32]
    tensors = {"weight": weight, "bias": bias}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weight"], ["y"]),
            helper.make_node("Add", ["y", "bias"], ["z"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)

    script.halve_weights(model)

    onnx.checker.check_model(model)
    stored = {one.name: one.data_type for one in model.graph.initializer}
    assert stored == {
        "bias": TensorProto.FLOAT,
        "weight_fp16": TensorProto.FLOAT16,
    }
    session = ort.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.ones((1, 32), np.float32)
    expected = x @ weight.astype(np.float16).astype(np.float32) + bias
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5)


def test_samples_score_what_the_manifest_says(script: ModuleType) -> None:
    """A workload that runs its model several times a sample is scored too."""
    workload = UNET_3D.open_workload("embedded", None)

    scores = script.score_samples(workload)

    assert scores["DICE"] == pytest.approx(workload.reference["DICE"], abs=1e-4)


def test_a_manifest_is_there_before_its_score(
    script: ModuleType, tmp_path: Path
) -> None:
    """The package opens the files by the manifest, and only then can score them."""
    path = tmp_path / "manifest.json"

    def score() -> dict[str, float]:
        assert json.loads(path.read_text()) == {"sha256": {}, "reference": {}}
        return {"acc": 96.4}

    script.write_scored_manifest(path, {"sha256": {}, "reference": {}}, score)

    assert json.loads(path.read_text())["reference"] == {"acc": 96.4}
