"""The ONNX importer against onnxruntime, on the CPU; skipped without PyTorch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.api.workload import model_file
from pytest_mlperf.benchmarks import bert
from pytest_mlperf.benchmarks import resnet50
from pytest_mlperf.benchmarks import unet_3d
from pytest_mlperf.benchmarks.detection.embedded import open_embedded
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins import generated_retinanet
from pytest_mlperf.benchmarks.standins import graphs
from pytest_mlperf.benchmarks.standins import unet_graph
from pytest_mlperf.benchmarks.standins.graphs import BertSize
from pytest_mlperf.benchmarks.standins.retinanet_graph import RetinaNetSize

torch = pytest.importorskip("torch", reason="the importer makes PyTorch calls")
ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from pytest_mlperf.engines.torch import fuse  # noqa: E402
from pytest_mlperf.engines.torch import onnx_graph  # noqa: E402
from pytest_mlperf.engines.torch import verify  # noqa: E402
from pytest_mlperf.engines.torch.bert import recognize  # noqa: E402
from pytest_mlperf.engines.torch.conv import fp8  # noqa: E402
from pytest_mlperf.engines.torch.conv import stem  # noqa: E402
from pytest_mlperf.engines.torch.conv import tail  # noqa: E402
from pytest_mlperf.engines.torch.onnx_graph import Node  # noqa: E402
from pytest_mlperf.engines.torch.onnx_graph import OnnxGraph  # noqa: E402

SMALL = BertSize(2, 64, 128, heads=2, vocabulary=1500, positions=384)


def graph_of(workload: TensorWorkload) -> OnnxGraph:
    model = model_file(workload, "torch")
    return onnx_graph.read_graph(model.path, model.inputs, model.outputs)


def run(graph: OnnxGraph, batch: Any, operators: Any = None) -> list[Any]:
    program = onnx_graph.Program(graph, "cpu", torch.float32, operators)
    return verify.run_program(program, batch)


@pytest.mark.parametrize(
    "opened",
    [
        bert.open_embedded,
        resnet50.open_embedded,
        partial(open_embedded, "ssd-small"),
    ],
)
def test_embedded_models_answer_as_in_onnxruntime(opened: Any) -> None:
    """Every operator of both graphs means what ONNX says, to float32's last digits."""
    workload = opened()
    batch = workload.dataset.gather([0, 1, 2])
    session = ort.InferenceSession(workload.model.path)
    wanted = session.run(list(workload.model.outputs), batch)
    found = run(graph_of(workload), batch)

    for a, b in zip(wanted, found, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)


def test_a_reference_is_made_of_few_samples_at_a_time() -> None:
    """Parts of 4 and 2 samples come back as one batch, in its order."""
    workload = resnet50.open_embedded()
    program = onnx_graph.Program(graph_of(workload), "cpu", torch.float32)
    batch = workload.dataset.gather([5, 4, 3, 2, 1, 0])
    asked: list[int] = []

    class Counting:
        device = program.device

        def run(self, feeds: Any) -> Any:
            asked.extend(len(a) for a in feeds.values())
            return program.run(feeds)

    found = verify.run_reference(Counting(), batch)

    assert asked == [4, 2]
    for a, b in zip(verify.run_program(program, batch), found, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)


def test_a_retinanet_picks_the_same_candidates(tmp_path: Path) -> None:
    """Grouped convolutions, doubling, the best of each level and their deltas."""
    size = RetinaNetSize(96, 5, (1, 1, 1, 1), groups=4, width=16, candidates=9)
    workload = generated_retinanet.open_retinanet(tmp_path, size, 2)
    batch = workload.dataset.gather([0, 1])
    session = ort.InferenceSession(workload.model.path)
    wanted = session.run(list(workload.model.outputs), batch)
    joined = fuse.fuse_convolutions(graph_of(workload))
    found = run(joined, batch, fuse.FusedOperators().table())

    for a, b in zip(wanted, found, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-4)


def test_operators_of_volumes_answer_as_in_onnxruntime(tmp_path: Path) -> None:
    """Convolutions in space, transposed ones, instance norms; one run of a sample."""
    workload = unet_3d.open_embedded()
    batch = verify.gather_samples(workload)
    path = tmp_path / "unet.onnx"
    unet_graph.write_unet(path, (2,) * 4, side=16)
    noise = np.random.default_rng(0).standard_normal((2, 1, 16, 16, 16), np.float32)
    pairs = ((workload.model.path, batch["input"][:1]), (path, noise))

    assert len(batch["input"]) == min(4, len(workload.dataset.starts[0]))
    for file, values in pairs:
        (wanted,) = ort.InferenceSession(file).run(["output"], {"input": values})
        graph = onnx_graph.read_graph(file, ("input",), ("output",))
        table = fuse.FusedOperators().table()
        (found,) = run(fuse.fuse_convolutions(graph), {"input": values}, table)

        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_a_bert_is_recognized_with_all_its_weights(tmp_path: Path) -> None:
    """What the packed encoder takes is what was drawn: order, shape and heads."""
    workload = generated.open_bert(SMALL, 4, tmp_path)
    found = recognize.find_bert(graph_of(workload))

    assert found is not None
    assert (
        found.heads,
        found.hidden_size,
        found.intermediate_size,
        len(found.layers),
    ) == (2, 64, 128, 2)
    assert found.layers[0]["qkv"][0].shape == (192, 64)
    assert (
        found.word_embeddings.shape,
        found.position_embeddings.shape,
        found.token_type_embeddings.shape,
    ) == ((1500, 64), (384, 64), (2, 64))
    assert found.eps == pytest.approx(1e-12, rel=1e-3)


def test_the_embedded_bert_is_recognized() -> None:
    """Its exporter wrote other names and Casts in front of every weight."""
    found = recognize.find_bert(graph_of(bert.open_embedded()))

    assert found is not None
    assert (found.heads, found.hidden_size, len(found.layers)) == (12, 384, 4)


def test_a_picture_model_is_no_bert() -> None:
    """It runs padded, as any graph."""
    assert recognize.find_bert(graph_of(resnet50.open_embedded())) is None


@pytest.fixture
def resnet(tmp_path: Path) -> OnnxGraph:
    """A residual net of two blocks, small enough for a test."""
    path = tmp_path / "resnet.onnx"
    graphs.write_resnet(path, (1, 1), 32)
    return onnx_graph.read_graph(path, ("pictures",), ("scores",))


def pictures() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {"pictures": random.integers(-128, 128, (2, 32, 32, 3), dtype=np.int8)}


def test_joined_convolutions_answer_as_apart(resnet: OnnxGraph) -> None:
    """Convolution, sum and ReLU in one call are still that, in the same order."""
    joined = fuse.fuse_convolutions(resnet)
    kinds = [node.kind for node in joined.nodes]
    (wanted,) = run(resnet, pictures())
    (found,) = run(joined, pictures(), fuse.FusedOperators().table())

    assert kinds.count("ConvAddRelu") == 2
    assert "Relu" not in kinds
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_a_net_in_fp8_keeps_its_first_and_last_layers(
    resnet: OnnxGraph,
) -> None:
    """Everything between pooling and mean is fp8, with finite scales."""
    quantized = low(resnet)
    convolutions = [node for node in quantized.nodes if node.kind == "Fp8Conv"]

    assert len(convolutions) == 8
    assert next(n.kind for n in quantized.nodes if "Conv" in n.kind) == "ConvRelu"
    assert [n.kind for n in quantized.nodes][-5:-3] == [
        "Dequantize",
        "GlobalAveragePool",
    ]
    assert all(0 < node.attributes["dequantize"] < np.inf for node in convolutions)


def low(graph: OnnxGraph) -> OnnxGraph:
    joined = fuse.fuse_convolutions(graph)
    seen = fp8.observe_activations(joined)
    return fp8.quantize(joined, dict.fromkeys(seen.outputs, 3.0))


def test_what_a_net_returns_has_no_scale(resnet: OnnxGraph) -> None:
    """Features beside the scores are in fp16, once however many read them."""
    names = ("scores", "pooled", "stage0.0/relu", "stage1.0/relu")
    quantized = low(OnnxGraph(resnet.nodes, resnet.constants, resnet.inputs, names))
    makers = quantized.makers()
    undone = [n.inputs[0] for n in quantized.nodes if n.kind == "Dequantize"]

    assert [makers[name].kind for name in quantized.outputs[1:]] == ["Dequantize"] * 3
    assert sorted(undone) == sorted(names[1:])


POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
PRODUCT = {"pads": [0] * 4, "strides": [1, 1]}


def test_a_later_pooling_reads_no_scaled_numbers() -> None:
    """Its result has a scale of its own, which is not that of what it reads."""
    nodes = [
        Node("MaxPool", "", ("x",), ("pooled",), POOL),
        Node("ConvRelu", "", ("pooled", "one", "bias"), ("a",), PRODUCT),
        Node("MaxPool", "", ("a",), ("again",), POOL),
        Node("ConvRelu", "", ("again", "one", "bias"), ("b",), PRODUCT),
    ]
    constants = {"one": torch.ones(64, 64, 1, 1), "bias": torch.zeros(64)}
    quantized = low(OnnxGraph(nodes, constants, ("x",), ("b",)))

    assert [(n.kind, n.inputs[0]) for n in quantized.nodes] == [
        ("Fp8MaxPool", "x"),
        ("Fp8Conv", "pooled"),
        ("Dequantize", "a"),
        ("Fp8MaxPool", "a/fp16"),
        ("Fp8Conv", "again"),
        ("Dequantize", "b"),
    ]


@pytest.mark.parametrize("shape", [(64, 64, 1, 3), (64, 64, 3, 1)])
def test_a_convolution_that_is_not_square_stays_in_fp16(shape: tuple[int, ...]) -> None:
    """Without padding its kernel's one side looks like a product's."""
    nodes = [
        Node("MaxPool", "", ("x",), ("pooled",), POOL),
        Node("ConvRelu", "", ("pooled", "one", "bias"), ("a",), PRODUCT),
        Node("ConvRelu", "", ("a", "w", "bias"), ("b",), PRODUCT),
    ]
    constants = {"one": torch.ones(64, 64, 1, 1), "w": torch.ones(shape)}
    constants["bias"] = torch.zeros(64)
    quantized = low(OnnxGraph(nodes, constants, ("x",), ("b",)))

    assert [n.kind for n in quantized.nodes][1:] == [
        "Fp8Conv",
        "Dequantize",
        "ConvRelu",
    ]


def test_ends_of_blocks_take_their_shortcuts_product_along(
    resnet: OnnxGraph,
) -> None:
    """Two blocks of 64 and 128 channels: both shortcuts are products, none is left."""
    apart = low(resnet)
    joined = tail.join_tails(apart)
    tails = [node for node in joined.nodes if node.kind == "ResidualTail"]
    made = [{n.outputs[0]: n for n in graph.nodes} for graph in (apart, joined)]

    assert [node.attributes["stride"] for node in tails] == [1, 2]
    assert all(node.inputs[4] for node in tails)
    assert made[0].keys() - made[1].keys() == {"stage0.0.d", "stage1.0.d"}
    for node in tails:
        whole = made[0][node.outputs[0]]
        parts = (whole, made[0][whole.inputs[3]])
        biases = [apart.constants[part.inputs[2]] for part in parts]

        assert torch.equal(joined.constants[node.inputs[2]], biases[0] + biases[1])


def test_only_int8_pictures_get_the_stem_of_blocks(
    resnet: OnnxGraph,
) -> None:
    """Of other pictures the first convolution stays as it is; the mean never does."""
    apart = low(resnet)
    kinds = [n.kind for n in stem.replace_ends(apart, {"pictures"}).nodes]
    others = [n.kind for n in stem.replace_ends(apart, set()).nodes]

    assert kinds[:2] == ["Int8StemPool", "Fp8Conv"]
    assert others[:4] == ["Cast", "Transpose", "ConvRelu", "Fp8MaxPool"]
    assert "Fp8Mean" in kinds
    assert "Fp8Mean" in others
    assert not {"Dequantize", "GlobalAveragePool"} & {*kinds, *others}


def test_blocks_of_pixels_are_the_first_convolution() -> None:
    """A product over blocks of 2x2 pixels is the convolution of 7x7 and stride 2."""
    weight = torch.randn(16, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    pictures = torch.randint(-128, 128, (2, 3, 12, 10)).float()
    blocks, scale = stem.fold_weights(weight)
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
        onnx_graph.read_graph(path, ("x",), ("y",))


def test_a_weight_on_the_cpu_is_refused() -> None:
    """A silent fallback to the CPU would be measured as the device."""
    with pytest.raises(BuildFailed, match="1 of 1 weights are on the CPU"):
        verify.check_on_device({"layer.0": torch.zeros(1)})
