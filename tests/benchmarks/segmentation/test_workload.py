"""Volumes in, classes out: runs of the model, wrong engines, Dice."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.segmentation.dice import score_classes
from pytest_mlperf.benchmarks.segmentation.volumes import LabeledVolume
from pytest_mlperf.benchmarks.segmentation.volumes import VolumeDataset
from pytest_mlperf.benchmarks.segmentation.volumes import check_volume
from pytest_mlperf.benchmarks.segmentation.workload import SegmentationWorkload

SHAPES = ((8, 8, 8), (12, 8, 16), (16, 12, 12))
Run = Callable[[Batch, int], Sequence[Array]]


@pytest.fixture
def workload() -> SegmentationWorkload:
    """Volumes whose labels are their rounded intensities."""
    random = np.random.default_rng(0)
    labels = [random.integers(0, 3, shape, np.uint8) for shape in SHAPES]
    return SegmentationWorkload(
        kind="embedded",
        title="noise",
        digest="",
        model=ModelFile(Path("none"), ("input",), ("output",)),
        dataset=VolumeDataset([one[None].astype(np.float32) for one in labels], 8),
        reference={"DICE": 1.0},
        labels=labels,
        windows_a_run=4,
    )


def read_class(batch: Batch, size: int) -> Sequence[Array]:
    """Score the class that a voxel's intensity names."""
    distance = batch["input"] - np.arange(3).reshape(1, 3, 1, 1, 1)
    assert len(distance) == size
    return [np.asarray(-np.abs(distance), np.float32)]


def score(workload: SegmentationWorkload, run: Run) -> dict[str, float]:
    indices = range(workload.dataset.total)
    rows, sizes, _ = workload.run_model(run, indices)
    assert sizes is not None
    return workload.score(
        {i: row[:size].tobytes() for i, row, size in zip(indices, rows, sizes)}  # noqa: B905
    )


def test_a_right_model_scores_one_and_prints_the_official_line(
    workload: SegmentationWorkload,
) -> None:
    """Every voxel is in some window, in the order of the labels."""
    metrics = score(workload, read_class)

    assert metrics == {"DICE": 1.0, "kidney": 1.0, "tumor": 1.0}
    assert (
        workload.accuracy_text(metrics)
        == "Accuracy: mean = 1.00000, kidney = 1.0000, tumor = 1.0000"
    )


def test_runs_are_full_across_volumes(workload: SegmentationWorkload) -> None:
    """1, 6 and 12 windows, four a run: only the last one is smaller."""
    sizes = []

    def run(batch: Batch, size: int) -> Sequence[Array]:
        sizes.append(size)
        return read_class(batch, size)

    score(workload, run)

    assert workload.dataset.lengths is not None
    assert workload.dataset.lengths.tolist() == [1, 6, 12]
    assert sizes == [4, 4, 4, 4, 3]


def test_one_run_of_all_windows_gives_the_same_answers(
    workload: SegmentationWorkload,
) -> None:
    """A tensor service gets gather's batch, and its outputs go to respond."""
    indices = [2, 0]
    batch = workload.dataset.gather(indices)
    whole = workload.respond(read_class(batch, 13), indices)
    parts = workload.run_model(read_class, indices)

    assert np.array_equal(whole.rows, parts.rows)
    assert whole.sizes == parts.sizes == [16 * 12 * 12, 8 * 8 * 8]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scores: scores[:, [1, 2, 0]],
        lambda scores: scores[::-1],
        lambda scores: np.roll(scores, 1, axis=-1),
        lambda scores: np.zeros_like(scores),
    ],
    ids=["classes permuted", "windows permuted", "shifted by one", "nothing"],
)
def test_a_wrong_model_scores_less(
    workload: SegmentationWorkload, spoil: Callable[[Array], Array]
) -> None:
    """What an engine may mix up is seen in the score."""

    def run(batch: Batch, size: int) -> Sequence[Array]:
        return [spoil(read_class(batch, size)[0])]

    assert score(workload, run)["DICE"] < 0.9


def test_wrong_outputs_are_refused_with_what_they_should_be(
    workload: SegmentationWorkload,
) -> None:
    """Too few windows, and scores that are no numbers."""

    def lose_one(batch: Batch, size: int) -> Sequence[Array]:
        return [read_class(batch, size)[0][1:]]

    def overflow(batch: Batch, size: int) -> Sequence[Array]:
        return [read_class(batch, size)[0] * np.float32(np.inf)]

    with pytest.raises(ValueError, match=r"\[3, 3, 8, 8, 8\], but should be \[4, 3"):
        score(workload, lose_one)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="NaN or infinity"):
        score(workload, overflow)


def test_a_lost_answer_scores_nothing_and_a_wrong_one_is_an_error(
    workload: SegmentationWorkload,
) -> None:
    """As many bytes as the volume has voxels, each a class."""
    right = workload.labels[0].tobytes()

    assert workload.score({0: right})["DICE"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="512 bytes for sample 1, but should be 1,536"):
        workload.score({1: right})
    with pytest.raises(ValueError, match="for sample 3"):
        workload.score({3: right})
    with pytest.raises(ValueError, match="class 9, but classes should be 0 to 2"):
        workload.score({0: bytes([9]) * 512})


def test_dice_counts_what_both_have() -> None:
    """2 x both / (one + other); a class that neither has is 1, as in the reference."""
    found = score_classes(
        np.array([0, 1, 1, 0], np.uint8), np.array([1, 1, 0, 0], np.uint8), 3
    )

    assert found.tolist() == pytest.approx([0.5, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", r"case: voxel \(0, 1, 2, 3\) is nan, one of 1"),
        ("shape", r"\(8, 8, 10\), but each side should be .* a multiple of 4"),
        ("label", "labels are uint8 up to 3, but should"),
        ("pair", "and the labels"),
    ],
)
def test_a_volume_that_cannot_be_used_is_named(change: str, message: str) -> None:
    """Before anything is run."""
    image, labels = np.zeros((1, 8, 8, 8), np.float32), np.zeros((8, 8, 8), np.uint8)
    if change == "nan":
        image[0, 1, 2, 3] = np.nan
    if change == "shape":
        image, labels = np.zeros((1, 8, 8, 10), np.float32), np.zeros((8, 8, 10), "u1")
    if change == "label":
        labels[0, 0, 0] = 3
    if change == "pair":
        labels = labels[:4]

    check_volume(
        LabeledVolume(
            "ok", np.zeros((1, 8, 8, 8), np.float32), np.zeros((8,) * 3, "u1")
        ),
        8,
        3,
    )
    with pytest.raises(ValueError, match=message):
        check_volume(LabeledVolume("case", image, labels), 8, 3)
