"""resnet50: preprocessing, answers, metric, embedded artefacts, official loader."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks import resnet50
from pytest_mlperf.benchmarks.imagenet import pictures
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload
from pytest_mlperf.benchmarks.resnet50 import RESNET50

COLOURS = {(220, 30, 20): 10, (20, 200, 40): 20, (30, 20, 210): 30}
"""Colour of a picture -> its label in the official tree that these tests make."""


@pytest.fixture(scope="module")
def embedded() -> ImageNetWorkload:
    return RESNET50.open_workload("embedded", None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An official tree: six plain pictures and a model that tells their colours."""
    pictures = tmp_path / resnet50.PICTURES
    pictures.mkdir(parents=True)
    lines = []
    for number, (colour, label) in enumerate([*COLOURS.items()] * 2):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        Image.new("RGB", (300 + number, 280), colour).save(pictures / name, "JPEG")
        lines.append(f"{name} {label}\n")
    (pictures / "val_map.txt").write_text("".join(lines))
    (tmp_path / resnet50.CALIBRATION.paths[0]).write_text(f"{lines[1].split()[0]}\n")
    model = tmp_path / resnet50.MODEL.paths[0]
    model.parent.mkdir(parents=True)
    write_colour_model(model)
    return tmp_path


def write_colour_model(path: Path) -> None:
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
        "colours",
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
    assert (np.dtype(np.int32), (1,)) == (workload.blank.dtype, workload.blank.shape)


@given(
    values=hnp.arrays(np.float32, st.integers(1, 40), elements=st.integers(0, 255)),
    size=st.integers(1, 60),
)
def test_area_mean_keeps_the_mean_and_the_range(
    values: NDArray[np.float32], size: int
) -> None:
    """Every old value weighs the same in the whole, whatever the new size."""
    resized = pictures.average_areas(values, size)

    assert size == len(resized)
    assert resized.mean() == pytest.approx(values.mean(), rel=1e-4, abs=1e-3)
    assert values.min() - 1e-3 <= resized.min() <= resized.max() <= values.max() + 1e-3


def test_area_mean_weighs_partly_covered_values_by_their_share() -> None:
    """3 values to 2: the middle one counts half in both."""
    resized = pictures.average_areas(np.array([0, 30, 90], np.float32), 2)

    assert resized.tolist() == [10.0, 70.0]


@settings(max_examples=25, deadline=None)
@given(width=st.integers(60, 400), height=st.integers(60, 400))
def test_resize_keeps_the_aspect_ratio(width: int, height: int) -> None:
    """The shorter side becomes 256, the longer one follows, rounded down."""
    pixels = pictures.resize(Image.new("RGB", (width, height), (9, 99, 199)))

    longer = int(256 * max(width, height) / min(width, height))
    expected = (longer, 256, 3) if height > width else (256, longer, 3)
    assert expected == pixels.shape
    assert {tuple(p) for p in pixels.reshape(-1, 3).tolist()} == {(9, 99, 199)}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "1"])
def test_pictures_of_every_mode_become_three_channels(
    mode: str, tmp_path: Path
) -> None:
    """Grey and CMYK pictures occur among ImageNet's."""
    path = tmp_path / "picture"
    file_format = "JPEG" if mode in {"RGB", "L", "CMYK"} else "PNG"
    Image.new("L", (301, 257), 200).convert(mode).save(path, file_format)
    pixels = pictures.center_crop(pictures.resize(pictures.read_rgb(path)))

    assert ((224, 224, 3), np.dtype(np.uint8)) == (pixels.shape, pixels.dtype)


def test_the_crop_is_the_middle() -> None:
    """An odd remainder leaves the extra row or column below and to the right."""
    pixels = np.zeros((257, 300, 3), np.uint8)
    pixels[16, 38] = 255
    crop = pictures.center_crop(pixels)

    assert crop[0, 0].tolist() == [255, 255, 255]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    """A truncated download says which file it is."""
    (tmp_path / "bad.JPEG").write_bytes(b"<html>")

    with pytest.raises(ValueError, match=r"bad\.JPEG cannot be decoded"):
        pictures.read_rgb(tmp_path / "bad.JPEG")


@pytest.mark.parametrize("line", ["a.JPEG", "a.JPEG 1000", "a.JPEG -1", "a b 3"])
def test_a_bad_line_of_the_label_map_is_named(line: str, tmp_path: Path) -> None:
    """File, line and the expected form are in the message."""
    path = tmp_path / "val_map.txt"
    path.write_text(f"good.JPEG 65\n\n{line}\n")

    with pytest.raises(ValueError, match=r"val_map\.txt:3 is .* label from 0 to 999"):
        pictures.read_val_map(path)


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    """A gate that finds nothing to check must not pass."""
    (tmp_path / "val_map.txt").write_text("\n")

    with pytest.raises(ValueError, match="is empty"):
        pictures.read_val_map(tmp_path / "val_map.txt")


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_gather_is_stacking(data: st.DataObject, embedded: ImageNetWorkload) -> None:
    """A batch is its samples on top of each other: float32, C-contiguous."""
    total = embedded.dataset.total
    indices = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=5))
    batch = embedded.dataset.gather(indices)["input"]

    stacked = [embedded.dataset.gather([index])["input"][0] for index in indices]
    assert (len(indices), 3, 224, 224) == batch.shape
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert np.array_equal(np.stack(stacked), batch)


def test_embedded_samples_are_normalised_and_lie_as_gather_needs_them(
    embedded: ImageNetWorkload,
) -> None:
    """A dataset that is not contiguous would be copied whole by every gather."""
    samples = embedded.dataset.arrays["input"]  # type: ignore[attr-defined]

    assert samples.flags.c_contiguous
    assert -127 / 128 <= samples.min() < -0.9
    assert 0.9 < samples.max() <= 1.0


@pytest.mark.parametrize(("classes", "winner"), [(1000, 7), (1001, 6)])
def test_respond_gives_the_winning_class_without_the_background(
    classes: int, winner: int, embedded: ImageNetWorkload
) -> None:
    """The official model has 1001 scores, the background first."""
    scores = np.zeros((2, classes), np.float32)
    scores[:, 7] = 1
    rows, sizes, _ = embedded.respond([scores], [3, 4])

    assert (rows.tolist(), sizes) == ([[winner], [winner]], None)
    assert (np.dtype(np.int32), True) == (rows.dtype, rows.flags.c_contiguous)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 500, 999])
def test_respond_refuses_what_is_not_finite(
    bad: float, column: int, embedded: ImageNetWorkload
) -> None:
    """Anywhere in any row, even where it would not win."""
    scores = np.zeros((3, 1000), np.float32)
    scores[1, 2] = 5
    scores[1, column] = bad

    with pytest.raises(ValueError, match=rf"logits\[1, {column}\] is .*sample 11\)"):
        embedded.respond([scores], [10, 11, 12])


@pytest.mark.parametrize("shape", [(2,), (2, 10), (2, 1000, 1)])
def test_respond_refuses_a_wrong_shape(
    shape: tuple[int, ...], embedded: ImageNetWorkload
) -> None:
    """The message has the shape found and both that are right."""
    found = re.escape(str(list(shape)))

    with pytest.raises(ValueError, match=rf"shape {found}, but should be \[2, 1000\]"):
        embedded.respond([np.zeros(shape, np.float32)], [0, 1])


def test_respond_refuses_too_few_rows(embedded: ImageNetWorkload) -> None:
    """A lost row must not shift the answers of the others."""
    with pytest.raises(ValueError, match="has 2 rows, but should have 3"):
        embedded.respond([np.zeros((2, 1000), np.float32)], [0, 1, 2])


@given(flips=st.sets(st.integers(0, 269)))
def test_score_counts_exactly_the_right_answers(
    flips: set[int], embedded: ImageNetWorkload
) -> None:
    """Each wrong answer costs one in 270, and accuracy.txt says so."""
    answers = {
        index: np.int32(label + (index in flips)).tobytes()
        for index, label in enumerate(embedded.labels)
    }
    metrics = embedded.score(answers)

    good = 270 - len(flips)
    assert metrics == {"acc": 100 * good / 270}
    assert f"good={good}, total=270" in embedded.accuracy_text(metrics)


def test_score_counts_a_lost_answer_as_wrong(embedded: ImageNetWorkload) -> None:
    """An engine that answers half of the samples must not score on that half."""
    label = embedded.labels[0].tobytes()

    assert embedded.score({0: label}) == {"acc": 100 / 270}


@pytest.mark.parametrize(
    ("answers", "message"),
    [({270: bytes(4)}, "should be 0 to 269"), ({0: bytes(8)}, "has 8 bytes")],
)
def test_score_refuses_answers_of_another_log(
    answers: dict[int, bytes], message: str, embedded: ImageNetWorkload
) -> None:
    """A log of another dataset or benchmark is no low accuracy."""
    with pytest.raises(ValueError, match=message):
        embedded.score(answers)


def test_accuracy_text_is_what_the_official_checker_reads(
    embedded: ImageNetWorkload,
) -> None:
    """The pattern is the submission checker's."""
    text = embedded.accuracy_text({"acc": 100 * 263 / 270})
    found = re.match(r"^(?:\{\"accuracy|accuracy)[\": ]*=?\s*([\d\.]+).*", text)

    assert text == "accuracy=97.407%, good=263, total=270"
    assert found is not None
    assert found.group(1) == "97.407"


def test_the_manifest_covers_every_shipped_file() -> None:
    """Hash, author, licence and source of each; no photograph serves twice."""
    folder = resnet50.EMBEDDED
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = [manifest["model"], *manifest["photos"]]
    listed = {entry["file"]: entry["sha256"] for entry in entries}
    shipped = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*folder.glob("*.onnx"), *folder.glob("photos/*")]
    }

    assert shipped == listed
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
    accuracy = embedded.score(answers_of(embedded))["acc"]

    assert embedded.reference["acc"] == pytest.approx(accuracy, abs=100 / 270 + 1e-3)


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
    assert workload.reference == {"acc": 76.46}
    assert (workload.dataset.total, workload.dataset.performance_count) == (6, 6)
    with pytest.raises(KeyError):
        workload.dataset.gather([0])


def test_official_pixels_are_rgb_less_the_means(scratch: Path) -> None:
    """Channels first, red first, the reference's means subtracted, nothing scaled."""
    dataset = RESNET50.open_workload("official", scratch).dataset
    dataset.load([0, 1])
    batch = dataset.gather([1, 0])[pictures.INPUT]

    expected = np.array([220, 30, 20]) - pictures.MEANS
    assert ((2, 3, 224, 224), np.dtype(np.float32)) == (batch.shape, batch.dtype)
    assert expected.tolist() == pytest.approx(batch[1].mean(axis=(1, 2)), abs=3)


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
