"""What the onnxruntime engine does beyond running a session."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mlperf.api import registry
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import WritesOnnx
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.benchmarks.standins.graphs import BertSize
from pytest_mlperf.engines.onnx_build import OPENVINO
from pytest_mlperf.engines.onnxruntime import OrtEngine
from pytest_mlperf.engines.onnxruntime import provider_settings
from pytest_mlperf.engines.onnxruntime import stack_padded


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_arrays_of_different_lengths_are_stacked(shapes: list[tuple[int, int]]) -> None:
    """Each keeps its numbers; what is added is zero."""
    arrays = [np.full(shape, 7, np.int32) for shape in shapes]
    stacked = stack_padded(arrays)

    assert stacked.dtype == np.int32
    assert len(stacked) == len(arrays)
    for row, array in zip(stacked, arrays, strict=True):
        height, width = array.shape
        assert (row[:height, :width] == array).all()
        assert row.sum() == array.sum()


@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-5), ("int8", 0.01)])
def test_weights_beside_a_model_go_into_its_build_and_its_export(
    precision: str, atol: float, tmp_path: Path
) -> None:
    """As generated models and large official ones have them."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    build = provider.build(BuildRequest(workload, precision, tmp_path / "cache"))
    export = tmp_path / "export" / "model.onnx"
    export.parent.mkdir()
    writer: object = provider
    assert isinstance(writer, WritesOnnx)
    assert workload.model is not None
    writer.write_onnx(workload.model, precision, export)
    workload.dataset.load([0])
    batch = workload.dataset.gather([0])
    engine = provider.open(build, 1)
    built = engine.infer(batch, 1)
    session = onnxruntime.InferenceSession(export)
    exported = session.run(["start_logits", "end_logits"], dict(batch))

    assert any((tmp_path / "made").glob("*.weights"))
    np.testing.assert_allclose(built, exported, atol=atol)


def test_a_batch_that_the_graph_does_not_take_is_explained(tmp_path: Path) -> None:
    """The session tells types without the input, and one thing at a time."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    build = provider.build(BuildRequest(workload, "fp32", tmp_path / "cache"))
    engine = provider.open(build, 1)
    workload.dataset.load([0])
    batch = workload.dataset.gather([0])
    first, second, third = batch
    wrong = {first: batch[first].astype(float), second: batch[second][0], "extra": 1}
    length = len(batch[second][0])
    with pytest.raises(ValueError, match="extra, which the graph does not") as caught:
        engine.infer(wrong, 1)

    taken = "but the graph takes int64 [batch, length]"
    remedy = "convert it where the dataset is made"
    problems = (
        f"input {first} is float64 [1, {length}], {taken}: {remedy}",
        f"input {second} is int64 [{length}], {taken}: {remedy}",
        f"the dataset has no array {third}, which the graph takes",
        "the dataset has extra, which the graph does not take (",
    )
    assert str(caught.value).startswith("; ".join(problems))
    engine.outputs = ["logits"]
    with pytest.raises(ValueError, match="the graph has no output logits, but start_"):
        engine.infer(batch, 1)


@pytest.mark.parametrize(
    ("rows", "words"),
    [(1, "dynamic first axis, the batch, or say one_by_one=True"), (4, "the batch (")],
)
def test_a_graph_of_a_fixed_batch_is_told(
    rows: int, words: str, tmp_path: Path
) -> None:
    """Exporters write one where nobody asks for a dynamic axis."""
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows, 2])
        for name in "xy"
    )
    graph = onnx.helper.make_graph([node], "fixed", [x], [y])
    onnx.save(onnx.helper.make_model(graph, ir_version=9), tmp_path / "fixed.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "fixed.onnx")
    with pytest.raises(ValueError, match="but the graph takes float32") as caught:
        OrtEngine(session, ["y"]).infer({"x": np.zeros((3, 2), np.float32)}, 3)

    assert words in str(caught.value)


def test_a_build_says_why_it_was_made(tmp_path: Path) -> None:
    """NVIDIA's README has the reasons: new, deleted, another setting or version."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")

    def build(precision: str) -> Build:
        request = BuildRequest(workload, precision, tmp_path / "cache")
        made: Build = provider.build(request)
        return made

    new, cached, other = build("fp32"), build("fp32"), build("int8")
    assert other.path is not None
    other.path.unlink()
    deleted = build("int8")
    folder = other.path.parent
    for sidecar in folder.glob("*.json"):
        content = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps(content | {"version": "1.0.0"}))
        sidecar.rename(sidecar.with_stem(f"old-{sidecar.stem}"))
    for graph in folder.glob("*.onnx"):
        graph.unlink()
    (folder / "torn.json").write_text("{")
    updated = build("fp32")

    assert new.facts["why built"] == "none of this workload was there"
    assert "why built" not in cached.facts
    assert other.facts["why built"] == "precision fp32 → int8"
    assert deleted.facts["why built"] == "it was deleted"
    assert updated.facts["why built"] == (
        f"version 1.0.0 → {onnxruntime.__version__[:12]}"
    )


@pytest.mark.parametrize("left", [0, 1000])
def test_a_build_whose_file_was_cut_is_made_again(tmp_path: Path, left: int) -> None:
    """A CI restores a part of its cache, or a disk was full. It was an error that
    asked for the file to be deleted.
    """
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    request = BuildRequest(workload, "fp32", tmp_path / "cache")
    first = provider.build(request)
    length = first.path.stat().st_size
    os.truncate(first.path, left)
    second = provider.build(request)
    provider.open(second, 1).close()

    assert second.facts["why built"] == "its file was damaged"
    assert second.path.stat().st_size == length


def test_a_build_with_other_bytes_is_made_again(tmp_path: Path) -> None:
    """A crash leaves a file of its size with zeros in it, which onnxruntime may read as
    weights.
    """
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    request = BuildRequest(workload, "fp32", tmp_path / "cache")
    first = provider.build(request)
    content = first.path.read_bytes()
    middle = len(content) // 2
    first.path.write_bytes(content[:middle] + bytes(4096) + content[middle + 4096 :])
    second = provider.build(request)
    third = provider.build(request)

    assert second.facts["why built"] == "its file was damaged"
    assert second.path.read_bytes() == content
    assert third.report.startswith("cached build")


@pytest.mark.parametrize("left", [None, "", "{", "[]"])
def test_a_damaged_sidecar_is_written_again(tmp_path: Path, left: str | None) -> None:
    """Nobody could read whose build lies beside it, and why the next one is made."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    request = BuildRequest(workload, "fp32", tmp_path / "cache")
    first = provider.build(request)
    sidecar = first.path.with_suffix(".json")
    before = sidecar.read_text()
    sidecar.unlink()
    if left is not None:
        sidecar.write_text(left)
    second = provider.build(request)

    assert sidecar.read_text() == before
    assert second.report.startswith("cached build")


def test_a_generated_graph_that_was_cut_is_written_again(tmp_path: Path) -> None:
    """Its weights lie beside it; without them the model was called damaged."""
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    model = generated.open_bert(size, 2, tmp_path).model
    assert model is not None
    weights = model.path.with_suffix(".weights")
    before = model.path.read_bytes(), weights.read_bytes()
    os.truncate(weights, 1000)
    generated.open_bert(size, 2, tmp_path)
    os.truncate(model.path, 1000)
    generated.open_bert(size, 2, tmp_path)

    assert (model.path.read_bytes(), weights.read_bytes()) == before


def test_a_cache_that_can_only_be_read_is_enough_where_it_has_the_build(
    tmp_path: Path,
) -> None:
    """CI mounts an earlier job's; a folder in the lock's place stands for that, because
    root may write anywhere.
    """
    size = BertSize(1, 16, 32, heads=1, vocabulary=1500, positions=384)
    workload = generated.open_bert(size, 2, tmp_path / "made")
    provider = registry.load("engine", "onnxruntime")
    request = BuildRequest(workload, "fp32", tmp_path / "cache")
    first = provider.build(request)
    lock = first.path.with_suffix(".lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    second = provider.build(request)
    first.path.unlink()
    with pytest.raises(BuildFailed, match=r"cannot be kept in .*--mlperf-cache DIR"):
        provider.build(request)

    assert second.digest == first.digest
    assert second.report.startswith("cached build")


def test_openvino_is_told_its_threads_and_its_precision() -> None:
    """By itself it takes every CPU in each stream, and bf16 where there is some."""
    settings = provider_settings(OPENVINO, 3)

    assert settings["num_of_threads"] == "3"
    assert settings["precision"] == "FP32"
    assert provider_settings("CPUExecutionProvider", 3) == {}


@pytest.mark.skipif(
    OPENVINO not in onnxruntime.get_available_providers(),
    reason="needs onnxruntime-openvino in onnxruntime's place: tox -e openvino",
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_answers_as_the_cpu_provider_does(
    precision: str, tmp_path: Path
) -> None:
    """It compiles graphs when they are opened, so that none is written optimized."""
    provider = registry.load("engine", "onnxruntime")
    workload = registry.benchmark("3d-unet" if precision == "fp32" else "resnet50")
    opened = workload.open_workload("embedded", None)
    assert isinstance(opened, TensorWorkload)
    opened.dataset.load([0])
    batch = {n: a[:1] for n, a in opened.dataset.gather([0]).items()}
    if precision == "fp32":
        batch = {"input": np.random.default_rng(1).random((1, 1, 32, 32, 32), "f4")}

    def answer(name: str) -> np.ndarray:
        request = BuildRequest(opened, precision, tmp_path, {"provider": name})
        build = provider.build(request)
        assert not build.uses_gpu
        return np.asarray(provider.open(build, 1).infer(batch, 1)[0])

    expected, found = answer("CPU"), answer("OpenVINO")
    spread = float(expected.max() - expected.min())
    limit = 1e-4 if precision == "fp32" else 0.1
    np.testing.assert_allclose(found, expected, atol=limit * spread)
