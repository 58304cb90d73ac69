"""Official files of the four detection benchmarks, in miniature."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.benchmarks.retinanet import RETINANET
from pytest_mlperf.benchmarks.ssd_mobilenet import SSD_MOBILENET
from pytest_mlperf.benchmarks.ssd_resnet34 import SSD_RESNET34
from pytest_mlperf.benchmarks.yolo import YOLO
from pytest_mlperf.core import rounds
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from tests.support import detectors

WRITERS: dict[str, Callable[..., None]] = {
    "retinanet": detectors.write_retinanet,
    "ssd-small": detectors.write_ssd_mobilenet,
    "ssd-large": detectors.write_ssd_resnet34,
    "yolo": detectors.write_yolo,
}
BENCHMARKS = [RETINANET, SSD_MOBILENET, SSD_RESNET34, YOLO]


@dataclass(frozen=True)
class Tree:
    """An official tree and its benchmark."""

    benchmark: DetectionBenchmark
    scratch: Path
    place: int = 0

    def path(self, source: str) -> Path:
        found: Path = (
            self.scratch / getattr(self.benchmark.official, source).paths[self.place]
        )
        return found

    def open(self) -> DetectionWorkload:
        return self.benchmark.open_workload("official", self.scratch)


def make_tree(benchmark: DetectionBenchmark, scratch: Path, place: int = 0) -> Tree:
    tree = Tree(benchmark, scratch, place)
    detectors.write_tree(tree.path("annotations"), tree.path("first_picture").parent)
    WRITERS[benchmark.name](tree.path("model"))
    return tree


@pytest.fixture(params=BENCHMARKS, ids=lambda b: str(b.name))
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return make_tree(request.param, tmp_path)


def answers_of(workload: DetectionWorkload, cache: Path) -> dict[int, bytes]:
    """Answer every sample by the engine, in batches of two."""
    request = BuildRequest(workload=workload, precision="fp32", cache=cache)
    engine = ONNXRUNTIME.open(ONNXRUNTIME.build(request), 1)
    answers: dict[int, bytes] = {}
    for indices in ([0, 1], [2]):
        workload.dataset.load(indices)
        outputs = engine.infer(workload.dataset.gather(indices), len(indices))
        workload.dataset.unload(indices)
        rows, sizes, _ = workload.respond(outputs, indices)
        assert sizes is not None
        answers |= {i: rows[k].tobytes()[: sizes[k]] for k, i in enumerate(indices)}
    engine.close()
    return answers


def test_the_official_files_are_read_and_scored(tree: Tree, tmp_path: Path) -> None:
    """Pictures, model, engine, answers in the reference's form, mAP."""
    workload = tree.open()
    answers = answers_of(workload, tmp_path / "cache")
    first = np.frombuffer(answers[2], "<f4").reshape(-1, 7)

    assert first[0, :5] == pytest.approx([2, 0.5, 0.25, 0.75, 0.75])
    assert workload.score(answers)["mAP"] == pytest.approx(100.0)
    assert workload.kind == "official"


def test_sizes_are_the_rounds(tree: Tree) -> None:
    """Sample counts agree with every round that has the benchmark."""
    official = tree.benchmark.official
    rules = [
        rule
        for name in rounds.ROUNDS
        for rule in rounds.get(name).rules
        if rule.benchmark == tree.benchmark.name
    ]

    assert rules
    for rule in rules:
        assert rule.dataset_size == official.pictures
        assert rule.performance_sample_count == official.performance_count


def test_a_graph_of_one_sample_answers_batches(tmp_path: Path) -> None:
    """RetinaNet's outputs are as long as there are objects: two in a red picture."""
    tree = make_tree(RETINANET, tmp_path)
    workload = tree.open()
    answers = answers_of(workload, tmp_path / "cache")

    assert workload.model.one_by_one
    assert [len(answers[i]) // 28 for i in range(3)] == [2, 1, 1]


def test_inputs_are_as_the_reference_makes_them(tree: Tree) -> None:
    """Layout, type and scale of each model's input."""
    workload = tree.open()
    workload.dataset.load([0])
    batch = workload.dataset.gather([0])[tree.benchmark.official.input]
    side = tree.benchmark.official.side
    expected: tuple[Any, ...] = {
        "retinanet": ((1, 3, side, side), np.float32, 250 / 255, 0.01),
        "ssd-small": ((1, side, side, 3), np.uint8, 250, 2),
        "ssd-large": ((1, 3, side, side), np.float32, 250 - 123.68, 2),
        "yolo": ((1, 3, side, side), np.float32, 114 / 255, 1e-7),
    }[tree.benchmark.name]

    assert (batch.shape, batch.dtype) == expected[:2]
    assert float(batch.flat[0]) == pytest.approx(expected[2], abs=expected[3])


@pytest.mark.parametrize("source", ["model", "annotations"])
def test_a_missing_file_is_named_with_its_origin(tree: Tree, source: str) -> None:
    """The cell is skipped, and the reason says what to download."""
    path = tree.path(source)
    path.unlink()
    name = str(path.relative_to(tree.scratch))

    with pytest.raises(RequirementMissing, match=re.escape(f"{name} not found in")):
        tree.open()
    with pytest.raises(RequirementMissing, match=r"zenodo|data preprocess yolo"):
        tree.benchmark.open_workload("official", None)


def test_missing_pictures_are_counted(tree: Tree) -> None:
    """The reference application drops them silently."""
    (tree.path("first_picture").parent / f"{1:012d}.jpg").unlink()

    with pytest.raises(RequirementMissing, match=r"1 of 3 pictures \(.*01\.jpg"):
        tree.open()


def test_the_references_layout_is_found_too(tmp_path: Path) -> None:
    """The second place of every file."""
    tree = make_tree(SSD_MOBILENET, tmp_path, 1)

    assert tree.open().dataset.total == 3


def test_a_truncated_picture_stops_the_opening(tree: Tree) -> None:
    """Named with the file, before anything is measured."""
    picture = tree.path("first_picture").parent / f"{2:012d}.jpg"
    picture.write_bytes(picture.read_bytes()[:-40])

    with pytest.raises(ValueError, match=r"02\.jpg cannot be decoded"):
        tree.open()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_model_that_is_none_is_named(tree: Tree, content: bytes) -> None:
    """A download of an error page."""
    tree.path("model").write_bytes(content)

    with pytest.raises(ValueError, match=r"\.onnx (is no ONNX model|has the inputs)"):
        tree.open()


def test_the_digest_follows_model_and_annotations(tree: Tree) -> None:
    """Other boxes are another workload."""
    before = tree.open().digest
    path = tree.path("annotations")
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))

    assert tree.open().digest != before


def test_calibration_reads_the_listed_pictures(tree: Tree) -> None:
    """In the folder of the training pictures; without the list, int8 says so."""
    calibration = tree.open().model.calibration
    assert calibration is not None
    with pytest.raises(RequirementMissing, match="--mlperf-precision fp32"):
        list(calibration())
    folder = tree.scratch / tree.benchmark.official.calibration_folders[0]
    path = tree.path("calibration")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0.jpg\n\n")
    with pytest.raises(RequirementMissing, match=r"0\.jpg, which .*lists, is not"):
        list(calibration())
    folder.mkdir(parents=True)
    picture = tree.path("first_picture").parent / f"{0:012d}.jpg"
    (folder / "0.jpg").write_bytes(picture.read_bytes())
    batches: list[Any] = list(calibration())

    assert [len(batch[tree.benchmark.official.input]) for batch in batches] == [1]
