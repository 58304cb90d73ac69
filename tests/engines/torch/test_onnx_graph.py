"""The ONNX importer against onnxruntime, on the CPU; skipped without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import bert
from pytest_mlperf.benchmarks import resnet50
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins import graphs
from pytest_mlperf.benchmarks.standins.graphs import BertSize

torch = pytest.importorskip("torch", reason="the importer makes PyTorch calls")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pytest_mlperf.engines.torch import fuse  # noqa: E402
from pytest_mlperf.engines.torch import onnx_graph  # noqa: E402
from pytest_mlperf.engines.torch import verify  # noqa: E402
from pytest_mlperf.engines.torch.bert import recognise  # noqa: E402
from pytest_mlperf.engines.torch.conv import fp8  # noqa: E402
from pytest_mlperf.engines.torch.conv import stem  # noqa: E402
from pytest_mlperf.engines.torch.conv import tail  # noqa: E402

SMALL = BertSize(2, 64, 128, heads=2, vocabulary=1500, positions=384)


def graph_of(workload: TensorWorkload) -> onnx_graph.Graph:
    model = workload.model
    return onnx_graph.read(model.path, model.inputs, model.outputs)


def run(graph: onnx_graph.Graph, batch: Any, more: Any = None) -> list[Any]:
    program = onnx_graph.Program(graph, "cpu", torch.float32, more)
    return verify.answers(program, batch)


@pytest.mark.parametrize("opened", [bert.open_embedded, resnet50.open_embedded])
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
    workload = generated.open_bert(SMALL, 4, tmp_path)
    found = recognise.bert(graph_of(workload))

    assert found is not None
    assert (found.heads, found.hidden, found.wide, len(found.layers)) == (2, 64, 128, 2)
    assert found.layers[0]["qkv"][0].shape == (192, 64)
    assert (
        found.words.shape,
        found.places.shape,
        found.kinds.shape,
    ) == ((1500, 64), (384, 64), (2, 64))
    assert pytest.approx(found.eps, rel=1e-3) == 1e-12


def test_the_embedded_bert_is_recognised() -> None:
    """Its exporter wrote other names and Casts in front of every weight."""
    found = recognise.bert(graph_of(open_embedded()))

    assert found is not None
    assert (found.heads, found.hidden, len(found.layers)) == (12, 384, 4)


def test_a_picture_model_is_no_bert() -> None:
    """It runs padded, as any graph."""
    assert recognise.bert(graph_of(resnet50.open_embedded())) is None


@pytest.fixture
def resnet(tmp_path: Path) -> onnx_graph.Graph:
    """A residual net of two blocks, small enough for a test."""
    path = tmp_path / "resnet.onnx"
    graphs.write_resnet(path, (1, 1), 32)
    return onnx_graph.read(path, ("pictures",), ("scores",))


def pictures() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"pictures": random.integers(-128, 128, (2, 32, 32, 3), dtype=np.int8)}


def test_joined_convolutions_answer_as_apart(resnet: onnx_graph.Graph) -> None:
    """Convolution, sum and ReLU in one call are still that, in the same order."""
    joined = fuse.fused(resnet)
    kinds = [node.kind for node in joined.nodes]
    (wanted,) = run(resnet, pictures())
    (found,) = run(joined, pictures(), fuse.operators())

    assert kinds.count("ConvAddRelu") == 2
    assert "Relu" not in kinds
    assert wanted == pytest.approx(found, rel=1e-5, abs=1e-6)


def test_a_net_in_fp8_keeps_its_first_and_last_layers(resnet: onnx_graph.Graph) -> None:
    """Everything between pooling and mean is fp8, with finite scales."""
    quantised = low(resnet)
    convolutions = [node for node in quantised.nodes if node.kind == "LowConv"]

    assert len(convolutions) == 8
    assert next(n.kind for n in quantised.nodes if "Conv" in n.kind) == "ConvRelu"
    assert [n.kind for n in quantised.nodes][-5:-3] == ["Raise", "GlobalAveragePool"]
    assert all(0 < node.attributes["back"] < np.inf for node in convolutions)


def low(graph: onnx_graph.Graph) -> onnx_graph.Graph:
    joined = fuse.fused(graph)
    seen = fp8.observed(joined)
    return fp8.quantised(joined, dict.fromkeys(seen.outputs, 3.0))


def test_ends_of_blocks_take_their_shortcuts_product_along(
    resnet: onnx_graph.Graph,
) -> None:
    """Two blocks of 64 and 128 channels: both shortcuts are products, none is left."""
    apart = low(resnet)
    joined = tail.joined(apart)
    tails = [node for node in joined.nodes if node.kind == "LowTail"]
    made = [{n.outputs[0]: n for n in graph.nodes} for graph in (apart, joined)]

    assert [node.attributes["stride"] for node in tails] == [1, 2]
    assert all(node.inputs[4] for node in tails)
    assert made[0].keys() - made[1].keys() == {"stage0.0.d", "stage1.0.d"}
    for node in tails:
        whole = made[0][node.outputs[0]]
        parts = (whole, made[0][whole.inputs[3]])
        biases = [apart.constants[part.inputs[2]] for part in parts]

        assert torch.equal(joined.constants[node.inputs[2]], biases[0] + biases[1])


def test_only_int8_pictures_get_the_stem_of_blocks(resnet: onnx_graph.Graph) -> None:
    """Of other pictures the first convolution stays as it is; the mean never does."""
    apart = low(resnet)
    kinds = [n.kind for n in stem.replaced(apart, {"pictures"}).nodes]
    others = [n.kind for n in stem.replaced(apart, set()).nodes]

    assert kinds[:2] == ["LowStem", "LowPool"]
    assert others[:4] == ["Cast", "Transpose", "ConvRelu", "LowPool"]
    assert "LowMean" in kinds
    assert "LowMean" in others
    assert not {"Raise", "GlobalAveragePool"} & {*kinds, *others}


def test_blocks_of_pixels_are_the_first_convolution() -> None:
    """A product over blocks of 2x2 pixels is the convolution of 7x7 and stride 2."""
    weight = torch.randn(16, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    pictures = torch.randint(-128, 128, (2, 3, 12, 10)).float()
    blocks, scale = stem.as_blocks(weight)
    padded = torch.nn.functional.pad(pictures, (4, 2, 4, 2))
    folded = padded.reshape(2, 3, 9, 2, 8, 2).permute(0, 3, 5, 1, 2, 4)
    kernel = blocks.reshape(16, 4, 4, 16)[..., :12].permute(0, 3, 1, 2).float()
    found = torch.conv2d(folded.reshape(2, 12, 9, 8), kernel) * scale[:, None, None]
    rounded = (weight / scale[:, None, None, None]).round()
    wanted = torch.conv2d(pictures, rounded, None, 2, 3) * scale[:, None, None]

    assert torch.allclose(wanted, found, rtol=1e-5)
    assert torch.allclose(rounded * scale[:, None, None, None], weight, atol=0.02)


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    """The message says which, in which file, and which engine runs them."""
    node = onnx.helper.make_node("Celu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, 1, (2,)) for n in "xy")
    path = tmp_path / "odd.onnx"
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    onnx.save(onnx.helper.make_model(graph), path)

    with pytest.raises(BuildFailed, match=r"odd\.onnx uses the operators Celu"):
        onnx_graph.read(path, ("x",), ("y",))


def test_a_weight_on_the_cpu_is_refused() -> None:
    """A silent fallback to the CPU would be measured as the device."""
    with pytest.raises(BuildFailed, match="1 of 1 weights are on the CPU"):
        verify.on_device({"layer.0": torch.zeros(1)})
