"""The ONNX importer against onnxruntime, on the CPU; skipped without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.benchmarks import generated
from pytest_mlperf.benchmarks import generated_graphs
from pytest_mlperf.benchmarks.bert import open_embedded
from pytest_mlperf.benchmarks.generated_graphs import BertSize
from pytest_mlperf.benchmarks.resnet50 import embedded
from pytest_mlperf.engine import BuildFailed
from pytest_mlperf.workload import Workload

torch = pytest.importorskip("torch", reason="the importer makes PyTorch calls")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pytest_mlperf.engines import torch_fp8_conv  # noqa: E402
from pytest_mlperf.engines import torch_fuse  # noqa: E402
from pytest_mlperf.engines import torch_onnx  # noqa: E402
from pytest_mlperf.engines import torch_recognise  # noqa: E402
from pytest_mlperf.engines import torch_verify  # noqa: E402

SMALL = BertSize(layers=2, hidden=64, wide=128, heads=2, words=1500, places=384)


def graph_of(workload: Workload) -> torch_onnx.Graph:
    model = workload.model
    return torch_onnx.read(model.path, model.inputs, model.outputs)


def run(graph: torch_onnx.Graph, batch: Any, more: Any = None) -> list[Any]:
    program = torch_onnx.Program(graph, "cpu", torch.float32, more)
    return torch_verify.answers(program, batch)


@pytest.mark.parametrize("opened", [open_embedded, embedded])
def test_embedded_models_answer_as_in_onnxruntime(opened: Any) -> None:
    """Every operator of both graphs means what ONNX says, to float32's last digits."""
    workload = opened()
    batch = workload.dataset.gather([0, 1, 2])
    session = ort.InferenceSession(workload.model.path)
    wanted = session.run(list(workload.model.outputs), batch)
    found = run(graph_of(workload), batch)

    for a, b in zip(wanted, found, strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-4)


def test_a_bert_is_recognised_with_all_its_weights(tmp_path: Path) -> None:
    """What the packed encoder takes is what was drawn: order, shape and heads."""
    workload = generated.bert(SMALL, 4, tmp_path)
    found = torch_recognise.bert(graph_of(workload))

    assert found is not None
    assert (2, 64, 128, 2) == (found.heads, found.hidden, found.wide, len(found.layers))
    assert (192, 64) == found.layers[0]["qkv"][0].shape
    assert ((1500, 64), (384, 64), (2, 64)) == (
        found.words.shape,
        found.places.shape,
        found.kinds.shape,
    )
    assert 1e-12 == pytest.approx(found.eps, rel=1e-3)


def test_the_embedded_bert_is_recognised() -> None:
    """Its exporter wrote other names and Casts in front of every weight."""
    found = torch_recognise.bert(graph_of(open_embedded()))

    assert found is not None
    assert (12, 384, 4) == (found.heads, found.hidden, len(found.layers))


def test_a_picture_model_is_no_bert() -> None:
    """It runs padded, as any graph."""
    assert torch_recognise.bert(graph_of(embedded())) is None


@pytest.fixture
def resnet(tmp_path: Path) -> torch_onnx.Graph:
    """A residual net of two blocks, small enough for a test."""
    path = tmp_path / "resnet.onnx"
    generated_graphs.write_resnet(path, (1, 1), 32)
    return torch_onnx.read(path, ("pictures",), ("scores",))


def pictures() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"pictures": random.integers(-128, 128, (2, 32, 32, 3), dtype=np.int8)}


def test_joined_convolutions_answer_as_apart(resnet: torch_onnx.Graph) -> None:
    """Convolution, sum and ReLU in one call are still that, in the same order."""
    joined = torch_fuse.fused(resnet)
    kinds = [node.kind for node in joined.nodes]
    (wanted,) = run(resnet, pictures())
    (found,) = run(joined, pictures(), torch_fuse.operators())

    assert 2 == kinds.count("ConvAddRelu")
    assert "Relu" not in kinds
    assert wanted == pytest.approx(found, rel=1e-5, abs=1e-6)


def test_a_net_in_fp8_keeps_its_first_and_last_layers(resnet: torch_onnx.Graph) -> None:
    """Everything between pooling and mean is fp8, with finite scales."""
    joined = torch_fuse.fused(resnet)
    seen = torch_fp8_conv.observed(joined)
    quantised = torch_fp8_conv.quantised(joined, dict.fromkeys(seen.outputs, 3.0))
    low = [node for node in quantised.nodes if node.kind == "LowConv"]

    assert 8 == len(low)
    assert "ConvRelu" == next(n.kind for n in quantised.nodes if "Conv" in n.kind)
    assert ["Raise", "GlobalAveragePool"] == [n.kind for n in quantised.nodes][-5:-3]
    assert all(0 < node.attributes["back"] < np.inf for node in low)


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    """The message says which, in which file, and which engine runs them."""
    node = onnx.helper.make_node("Celu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, 1, (2,)) for n in "xy")
    path = tmp_path / "odd.onnx"
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph), path)

    with pytest.raises(BuildFailed, match=r"odd\.onnx uses the operators Celu"):
        torch_onnx.read(path, ("x",), ("y",))


def test_a_weight_on_the_cpu_is_refused() -> None:
    """A silent fallback to the CPU would be measured as the device."""
    with pytest.raises(BuildFailed, match="1 of 1 weights are on the CPU"):
        torch_verify.on_device({"layer.0": torch.zeros(1)})
