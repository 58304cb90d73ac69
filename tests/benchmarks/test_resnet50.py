"""The benchmark resnet50: its embedded and its official workload."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import resnet50
from pytest_mlperf.benchmarks.imagenet import pictures
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload
from pytest_mlperf.benchmarks.resnet50 import RESNET50

COLORS = {(220, 30, 20): 10, (20, 200, 40): 20, (30, 20, 210): 30}
"""Color of a picture -> its label in the official tree that these tests make."""


@pytest.fixture(scope="module")
def embedded() -> ImageNetWorkload:
    return RESNET50.open_workload("embedded", None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An official tree: six plain pictures and a model that tells their colors."""
    pictures = tmp_path / resnet50.PICTURES
    pictures.mkdir(parents=True)
    lines = []
    for number, (color, label) in enumerate([*COLORS.items()] * 2):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        Image.new("RGB", (300 + number, 280), color).save(pictures / name, "JPEG")
        lines.append(f"{name} {label}\n")
    (pictures / "val_map.txt").write_text("".join(lines))
    (tmp_path / resnet50.CALIBRATION.paths[0]).write_text(f"{lines[1].split()[0]}\n")
    model = tmp_path / resnet50.MODEL.paths[0]
    model.parent.mkdir(parents=True)
    write_color_model(model)
    return tmp_path


def write_color_model(path: Path) -> None:
    """Write a model with the official names: 1001 scores, background first."""
    import onnx
    from onnx import TensorProto
    from onnx import helper
    from onnx import numpy_helper

    weights = np.zeros((3, 1001), np.float32)
    for channel, label in enumerate((10, 20, 30)):
        weights[channel, label + 1] = 0.1
    nodes = [
        helper.make_node("GlobalAveragePool", [pictures.INPUT], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["softmax_tensor:0"]),
        helper.make_node("ArgMax", ["scores"], ["ArgMax:0"], axis=1, keepdims=0),
    ]
    shape: list[str | int | None] = ["batch", 3, 224, 224]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info(pictures.INPUT, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("ArgMax:0", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(
                "softmax_tensor:0", TensorProto.FLOAT, ["batch", 1001]
            ),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def answers_of(workload: ImageNetWorkload, batch: int = 6) -> dict[int, bytes]:
    """Run the workload's model in fp32 over all samples."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        workload.model.path, options, providers=["CPUExecutionProvider"]
    )
    answers: dict[int, bytes] = {}
    for start in range(0, workload.dataset.total, batch):
        indices = list(range(start, min(start + batch, workload.dataset.total)))
        workload.dataset.load(indices)
        outputs = session.run(
            list(workload.model.outputs), workload.dataset.gather(indices)
        )
        workload.dataset.unload(indices)
        rows = workload.respond(outputs, indices).rows
        answers.update((i, rows[k].tobytes()) for k, i in enumerate(indices))
    return answers


def test_the_benchmark_and_its_workload_satisfy_the_protocols(
    embedded: ImageNetWorkload,
) -> None:
    """The contract of workload.py, checked by mypy and by use."""
    benchmark: Benchmark = RESNET50
    workload: TensorWorkload = embedded

    assert (
        benchmark.name,
        benchmark.aliases,
        benchmark.metric,
    ) == ("resnet50", ("resnet",), "acc")
    assert (workload.blank.dtype, workload.blank.shape) == (np.dtype(np.int32), (1,))


@settings(max_examples=20)
@given(data=st.data())
def test_gather_is_stacking(data: st.DataObject, embedded: ImageNetWorkload) -> None:
    """A batch is its samples on top of each other: float32, C-contiguous."""
    total = embedded.dataset.total
    indices = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=5))
    batch = embedded.dataset.gather(indices)["input"]

    stacked = [embedded.dataset.gather([index])["input"][0] for index in indices]
    assert batch.shape == (len(indices), 3, 224, 224)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert np.array_equal(np.stack(stacked), batch)


def test_embedded_samples_are_normalized_and_lie_as_gather_needs_them(
    embedded: ImageNetWorkload,
) -> None:
    """A dataset that is not contiguous would be copied whole by every gather."""
    samples = embedded.dataset.arrays["input"]  # type: ignore[attr-defined]

    assert samples.flags.c_contiguous
    assert -127 / 128 <= samples.min() < -0.9
    assert 0.9 < samples.max() <= 1.0


def test_every_photograph_has_an_author_a_licence_and_one_use() -> None:
    """Calibration and evaluation share none of them."""
    manifest = json.loads((resnet50.EMBEDDED / "manifest.json").read_text())

    assert len(manifest["photos"]) == len({e["origin"] for e in manifest["photos"]})
    assert all(e["author"] and e["licence"] for e in manifest["photos"])


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    """Another photograph or model would make the reference meaningless."""
    folder = tmp_path / "resnet50"
    shutil.copytree(resnet50.EMBEDDED, folder)
    photo = next(folder.glob("photos/eval_*"))
    photo.write_bytes(photo.read_bytes() + b"\0")

    with pytest.raises(ValueError, match=rf"{photo.name} has sha256 .*but should be"):
        resnet50.open_embedded(folder)


def test_fp32_reproduces_the_reference(embedded: ImageNetWorkload) -> None:
    """The reference is what the shipped model does on the shipped photographs."""
    answers = answers_of(embedded)
    accuracy = embedded.score(answers)["acc"]

    assert embedded.score_each(answers).mean() == pytest.approx(accuracy)
    assert accuracy == pytest.approx(embedded.reference["acc"], abs=100 / 270 + 0.001)


def test_the_default_precision_passes_the_gate(
    embedded: ImageNetWorkload, tmp_path: Path
) -> None:
    """99 % of fp32, as the engine builds it for this benchmark."""
    from pytest_mlperf.api.engine import BuildRequest
    from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME

    precision = RESNET50.precision("")
    request = BuildRequest(workload=embedded, precision=precision, cache=tmp_path)
    engine = ONNXRUNTIME.open(ONNXRUNTIME.build(request), 1)
    answers: dict[int, bytes] = {}
    for index in range(embedded.dataset.total):
        outputs = engine.infer(embedded.dataset.gather([index]), 1)
        answers[index] = embedded.respond(outputs, [index])[0][0].tobytes()
    engine.close()

    assert embedded.score(answers)["acc"] >= 0.99 * embedded.reference["acc"]


def test_calibration_shares_no_picture_with_evaluation(
    embedded: ImageNetWorkload,
) -> None:
    """Compared by content: not one calibration view is an evaluation sample."""
    assert embedded.model.calibration is not None
    views = [view for b in embedded.model.calibration() for view in b["input"]]
    total = range(embedded.dataset.total)
    samples = {embedded.dataset.gather([i])["input"].tobytes() for i in total}

    assert len(views) >= 100
    assert not samples & {view.tobytes() for view in views}


def test_the_official_loader_reads_the_tree(scratch: Path) -> None:
    """Pictures are decoded on load, answered without background, gone on unload."""
    workload = RESNET50.open_workload("official", scratch)
    answers = answers_of(workload, batch=4)

    assert workload.score(answers) == {"acc": 100.0}
    assert (workload.dataset.total, workload.dataset.performance_count) == (6, 6)
    with pytest.raises(KeyError):
        workload.dataset.gather([0])


def test_official_pixels_are_rgb_less_the_means(scratch: Path) -> None:
    """Channels first, red first, the reference's means subtracted, nothing scaled."""
    dataset = RESNET50.open_workload("official", scratch).dataset
    dataset.load([0, 1])
    batch = dataset.gather([1, 0])[pictures.INPUT]

    expected = np.array([220, 30, 20]) - pictures.MEANS
    assert (batch.shape, batch.dtype) == ((2, 3, 224, 224), np.dtype(np.float32))
    assert batch[1].mean(axis=(1, 2)) == pytest.approx(expected.tolist(), abs=3)


def test_official_calibration_uses_the_listed_pictures(scratch: Path) -> None:
    """Without the list, int8 says what is missing."""
    calibration = RESNET50.open_workload("official", scratch).model.calibration
    assert calibration is not None
    batches = list(calibration())
    (scratch / resnet50.CALIBRATION.paths[0]).unlink()

    assert [b[pictures.INPUT].shape for b in batches] == [(1, 3, 224, 224)]
    with pytest.raises(RequirementMissing, match=r"option_1\.txt not found"):
        list(calibration())


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (resnet50.MODEL.paths[0], "models/ResNet50/resnet50_v1.onnx not found"),
        (resnet50.VAL_MAP.paths[0], "data/imagenet/val_map.txt not found"),
        (
            resnet50.PICTURES / "ILSVRC2012_val_00000002.JPEG",
            r"1 of 6 pictures \(data/imagenet/ILSVRC2012_val_00000002.JPEG",
        ),
    ],
)
def test_what_is_missing_is_named_with_source_and_layout(
    gone: str | Path, named: str, scratch: Path
) -> None:
    """The reference app drops absent pictures silently; here the cell is skipped."""
    (scratch / gone).unlink()

    with pytest.raises(
        RequirementMissing, match=rf"{named}[\s\S]*to a folder with[\s\S]*zenodo"
    ):
        RESNET50.open_workload("official", scratch)


def test_no_scratch_folder_says_how_to_name_one() -> None:
    """The remedy comes first."""
    with pytest.raises(RequirementMissing, match="MLPERF_SCRATCH_PATH"):
        RESNET50.open_workload("official", None)


def test_the_digest_follows_model_and_labels(scratch: Path) -> None:
    """Another label map is another workload."""
    before = RESNET50.open_workload("official", scratch).digest
    path = scratch / resnet50.VAL_MAP.paths[0]
    path.write_text(path.read_text().replace(" 10", " 11"))
    after: Any = RESNET50.open_workload("official", scratch).digest

    assert before != after


def make_trained(scratch: Path) -> Path:
    """Write what scripts/train_resnet50.py writes, with three pictures and no model."""
    folder = scratch / "embedded" / "resnet50"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"none")
    random = np.random.default_rng(0)
    for name, count in (("pictures.npy", 3), ("calibration.npy", 20)):
        shown = random.integers(-128, 128, (count, 224, 224, 3), np.int8)
        np.save(folder / name, shown)
    np.save(folder / "labels.npy", np.array([4, 0, 9]))
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }
    record = {"title": "three digits", "reference": {"acc": 90.0}, "sha256": sums}
    (folder / "manifest.json").write_text(json.dumps(record))
    return folder


def test_a_trained_network_of_the_scratch_folder_stands_in(tmp_path: Path) -> None:
    """Its pictures, labels and calibration; any other content is refused."""
    folder = make_trained(tmp_path)

    workload = RESNET50.open_workload("embedded", tmp_path)

    assert workload.title == "embedded: three digits"
    assert workload.labels.tolist() == [4, 0, 9]
    gathered = workload.dataset.gather([2, 0])["pictures"]
    assert gathered.shape == (2, 224, 224, 3)
    assert gathered.dtype == np.int8
    assert workload.model.calibration is not None
    sizes = [len(batch["pictures"]) for batch in workload.model.calibration()]
    assert sizes == [16, 4]
    answers = {0: bytes([4, 0, 0, 0]), 1: bytes([1, 0, 0, 0])}
    assert workload.score_each(answers).tolist() == [100.0, 0.0, 0.0]
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"model\.onnx has sha256"):
        RESNET50.open_workload("embedded", tmp_path)
