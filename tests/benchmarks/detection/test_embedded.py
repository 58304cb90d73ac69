"""The embedded detector: its reference, its limit, and the engines that miss it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.benchmark import Benchmark
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.detection import embedded
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.benchmarks.retinanet import RETINANET
from pytest_mlperf.benchmarks.ssd_mobilenet import SSD_MOBILENET
from pytest_mlperf.benchmarks.ssd_resnet34 import SSD_RESNET34
from pytest_mlperf.benchmarks.yolo import YOLO
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME

BATCH = 16
Outputs = list[Array]


@pytest.fixture(scope="module")
def small() -> DetectionWorkload:
    return SSD_MOBILENET.open_workload("embedded", None)


@pytest.fixture(scope="module")
def outputs(
    small: DetectionWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Outputs:
    """The fp32 engine's outputs for every sample."""
    return infer(small, "fp32", tmp_path_factory.mktemp("fp32"))


def infer(
    workload: DetectionWorkload,
    precision: str,
    cache: Path,
    change: Callable[[Array], Array] = np.asarray,
) -> Outputs:
    request = BuildRequest(workload=workload, precision=precision, cache=cache)
    engine = ONNXRUNTIME.open(ONNXRUNTIME.build(request), 1)
    batches = []
    for start in range(0, workload.dataset.total, BATCH):
        indices = list(range(start, min(start + BATCH, workload.dataset.total)))
        batch = workload.dataset.gather(indices)
        changed = {name: change(array) for name, array in batch.items()}
        batches.append(engine.infer(changed, len(indices)))
    engine.close()
    return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]


def share_of_reference(workload: DetectionWorkload, outputs: Outputs) -> float:
    """Return mAP over the fp32 reference's, of answers to every sample."""
    indices = list(range(workload.dataset.total))
    rows, sizes, _ = workload.respond(outputs, indices)
    assert sizes is not None
    answers = {i: rows[i].tobytes()[: sizes[i]] for i in indices}
    return workload.score(answers)["mAP"] / workload.reference["mAP"]


def test_the_benchmarks_and_their_workload_satisfy_the_protocols(
    small: DetectionWorkload,
) -> None:
    """The contract, checked by mypy and by use; names are the rounds'."""
    benchmarks: list[Benchmark] = [RETINANET, SSD_MOBILENET, SSD_RESNET34, YOLO]
    workload: TensorWorkload = small

    assert [(b.name, b.metric) for b in benchmarks] == [
        ("retinanet", "mAP"),
        ("ssd-small", "mAP"),
        ("ssd-large", "mAP"),
        ("yolo", "mAP"),
    ]
    assert (workload.blank.dtype, workload.blank.shape) == (
        np.dtype(np.float32),
        (1, 7),
    )


@pytest.mark.parametrize("detector", [RETINANET, SSD_MOBILENET, SSD_RESNET34, YOLO])
def test_each_size_is_a_workload_of_its_own(detector: DetectionBenchmark) -> None:
    """The same scenes and detector, other inputs, another reference."""
    workload = detector.open_workload("embedded", None)
    side = embedded.SIDES[detector.name]

    assert workload.dataset.gather([1, 0])["images"].shape == (2, 3, side, side)
    assert 25 < workload.reference["mAP"] < 100


def test_no_photograph_serves_both_uses() -> None:
    """Scales that are fitted to what is evaluated would flatter int8."""
    folder = embedded.EMBEDDED
    photos = [
        {image["photo"] for image in json.loads((folder / name).read_text())["images"]}
        for name in ("evaluation.json", "calibration.json")
    ]

    assert not photos[0] & photos[1]


@pytest.mark.parametrize("name", ["detector.onnx", "evaluation/003_chamaeleon.jpg"])
def test_a_changed_file_is_refused(name: str, tmp_path: Path) -> None:
    """Another scene or model would make the reference meaningless."""
    folder = tmp_path / "detection"
    shutil.copytree(embedded.EMBEDDED, folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\0")

    with pytest.raises(ValueError, match=rf"{Path(name).name} has sha256 .*but should"):
        embedded.open_embedded("ssd-small", folder)


def test_fp32_reproduces_the_reference(
    small: DetectionWorkload, outputs: Outputs
) -> None:
    """The reference is what the shipped model does on the shipped scenes."""
    assert share_of_reference(small, outputs) == pytest.approx(1.0, abs=0.003)


def test_the_default_precision_passes_the_limit(
    small: DetectionWorkload, tmp_path: Path
) -> None:
    """99 % of fp32, as the engine builds it for this benchmark."""
    found = infer(small, SSD_MOBILENET.precision(""), tmp_path)

    assert share_of_reference(small, found) >= 0.99


def test_halved_input_misses_the_limit(
    small: DetectionWorkload, tmp_path: Path
) -> None:
    """An engine that scales pictures otherwise than the model was trained."""
    found = infer(small, "fp32", tmp_path, lambda pixels: pixels / np.float32(2))

    assert share_of_reference(small, found) < 0.99


def test_permuted_answers_miss_the_limit(
    small: DetectionWorkload, outputs: Outputs
) -> None:
    """An engine that returns a batch's rows in another order."""
    assert share_of_reference(small, [np.roll(a, 1, axis=0) for a in outputs]) < 0.99


def test_permuted_anchors_miss_the_limit(
    small: DetectionWorkload, outputs: Outputs
) -> None:
    """Rows and columns of a feature map confused, or off by one anchor."""
    assert share_of_reference(small, [np.roll(a, 1, axis=1) for a in outputs]) < 0.99


def test_permuted_classes_miss_the_limit(
    small: DetectionWorkload, outputs: Outputs
) -> None:
    """Labels that are off by one."""
    logits, deltas = outputs

    assert share_of_reference(small, [np.roll(logits, 1, axis=2), deltas]) < 0.5


def test_boxes_that_are_off_by_one_pixel_miss_the_limit(
    small: DetectionWorkload, outputs: Outputs
) -> None:
    """Every answer's box shifted by one of 128 pixels."""
    indices = list(range(small.dataset.total))
    rows, sizes, _ = small.respond(outputs, indices)
    assert sizes is not None
    rows[..., 1:5] += np.float32(1 / 128)
    answers = {i: rows[i].tobytes()[: sizes[i]] for i in indices}

    assert small.score(answers)["mAP"] < 0.99 * small.reference["mAP"]


def test_calibration_shares_no_scene_with_evaluation(small: DetectionWorkload) -> None:
    """Compared by content."""
    assert small.model.calibration is not None
    scenes = [scene for b in small.model.calibration() for scene in b["images"]]
    samples = {small.dataset.gather([i])["images"].tobytes() for i in range(96)}

    assert len(scenes) == 16
    assert not samples & {scene.tobytes() for scene in scenes}
