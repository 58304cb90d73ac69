"""From outputs to objects: the reference's rows, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.detection import outputs
from pytest_mlperf.benchmarks.detection.boxes import Level
from pytest_mlperf.benchmarks.detection.boxes import encode_boxes
from pytest_mlperf.benchmarks.detection.boxes import make_anchors
from tests.support.detectors import make_floats

BOX = [[200.0, 400.0, 600.0, 700.0]]
ANCHORS = make_anchors(16, [Level(4, (4.0,))])
READ_RAW = outputs.make_reader(ANCHORS, 2)


def test_retinanets_pixels_become_shares_with_y_first() -> None:
    """PostProcessOpenImagesRetinanet: x before y, 800 pixels, float32 division."""
    boxes = np.array([BOX], np.float32)
    found = outputs.read_retinanet([boxes, np.array([[7]]), np.array([[0.5]])], 1)

    assert found[0].tolist() == [[0.5, 0.25, 0.875, 0.75, 0.5, 7.0]]
    assert found[0].dtype == np.float32


def test_the_first_low_score_ends_the_list() -> None:
    """The reference breaks there, even if a higher one follows."""
    boxes = np.zeros((1, 4, 4), np.float32)
    scores = np.array([[0.9, 0.05, 0.04, 0.8]], np.float32)
    found = outputs.read_ssd_resnet34([boxes, np.ones((1, 4)), scores], 1)

    assert found[0][:, 4].tolist() == make_floats([0.9, 0.05]).tolist()


def test_ssd_mobilenet_says_how_many_there_are() -> None:
    """PostProcessCoco takes the count, and no limit on the score."""
    boxes = np.arange(16, dtype=np.float32).reshape(2, 2, 4) / 16
    scores = np.array([[0.9, 0.001], [0.3, 0.2]], np.float32)
    found = outputs.read_ssd_mobilenet(
        [make_floats([2, 0]), boxes, scores, make_floats([[3, 90], [1, 1]])], 2
    )

    assert found[0][:, 4:].tolist() == [
        [np.float32(0.9), 3.0],
        [np.float32(0.001), 90.0],
    ]
    assert found[0][1, :4].tolist() == [0.25, 0.3125, 0.375, 0.4375]
    assert len(found[1]) == 0


def test_a_graph_of_one_sample_may_lack_the_batch_axis() -> None:
    """RetinaNet's has none; a stack of SSD-ResNet34's has one too many."""
    boxes, labels, scores = np.array(BOX, np.float32), np.array([7]), np.array([0.5])
    plain = outputs.read_retinanet([boxes, labels, scores], 1)
    stacked = outputs.read_retinanet(
        [np.stack([a[None], a[None]]) for a in (boxes, labels, scores)], 2
    )

    assert plain[0].tolist() == stacked[0].tolist() == stacked[1].tolist()


def make_raw(found: dict[int, tuple[int, float]]) -> list[Array]:
    """Return raw outputs: anchor -> (class, logit), each box its anchor."""
    logits = np.full((1, len(ANCHORS), 2), -9, np.float32)
    for anchor, (column, logit) in found.items():
        logits[0, anchor, column] = logit
    return [logits, np.zeros((1, len(ANCHORS), 4), np.float32)]


def test_raw_outputs_are_decoded_and_suppressed() -> None:
    """The best box of each class stays; labels begin at 1; best first."""
    raw = make_raw({0: (0, 1.0), 5: (1, 3.0)})
    # Anchor 1's output is anchor 0's box: the better one of the class stays.
    corners = make_floats([[0, 0, 0.25, 0.25]])
    raw[0][0, 1, 0] = 2.0
    raw[1][0, 1] = encode_boxes(corners, ANCHORS[[1]])[0]
    rows = READ_RAW(raw, 1)[0]

    assert rows[:, 5].tolist() == [2.0, 1.0]
    assert rows[:, 4] == pytest.approx(1 / (1 + np.exp([-3.0, -2.0])), abs=1e-6)
    assert rows[0, :4].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert rows[1, :4] == pytest.approx([0, 0, 0.25, 0.25], abs=1e-6)


def test_nothing_found_is_no_row() -> None:
    """An empty answer, as the reference's."""
    assert READ_RAW(make_raw({}), 1)[0].shape == (0, 6)


def test_only_the_best_candidates_are_looked_at() -> None:
    """An engine that calls everything an object costs no minute a sample."""
    read = outputs.make_reader(make_anchors(64, [Level(2, (2.0,))]), 3)
    raw = [np.ones((1, 1024, 3), np.float32), np.zeros((1, 1024, 4), np.float32)]

    assert len(read(raw, 1)[0]) == outputs.MOST


GOOD: dict[str, tuple[Callable[..., object], list[Array]]] = {
    "retinanet": (
        outputs.read_retinanet,
        [np.ones((2, 3, 4), np.float32), np.ones((2, 3)), np.ones((2, 3))],
    ),
    "ssd-small": (
        outputs.read_ssd_mobilenet,
        [np.ones(2), np.ones((2, 3, 4)), np.ones((2, 3)), np.ones((2, 3))],
    ),
    "ssd-large": (
        outputs.read_ssd_resnet34,
        [np.ones((2, 3, 4)), np.ones((2, 3)), np.ones((2, 3))],
    ),
    "raw": (READ_RAW, [np.ones((2, 16, 2)), np.ones((2, 16, 4))]),
}


@pytest.mark.parametrize("name", GOOD)
def test_wrong_outputs_are_refused(name: str) -> None:
    """Too few outputs or rows, another last axis, NaN: found and required are said."""
    read, good = GOOD[name]
    at = next(k for k, array in enumerate(good) if array.ndim == 3)

    def put(array: Array) -> list[Array]:
        return [*good[:at], array, *good[at + 1 :]]

    read(good, 2)
    with pytest.raises(ValueError, match=r"returned \d outputs, but should return"):
        read(good[:-1], 2)
    with pytest.raises(ValueError, match=r"for a batch of 3, but should be "):
        read(good, 3)
    with pytest.raises(ValueError, match=r"shape \[2, .*, but should be .*\[batch, "):
        read(put(good[at][..., :1]), 2)
    bad = good[at].copy()
    bad[1, 1, 1] = np.nan
    with pytest.raises(ValueError, match="has NaN or infinity, but should"):
        read(put(bad), 2)


def make_predictions(count: int) -> Array:
    """Return YOLO's output for one sample, the same on every machine: [1, 84, n]."""
    prime = (
        1_000_003  # No two of the numbers have the same square, so no score is tied.
    )
    numbers = np.arange(84 * count, dtype=np.int64)
    values = (numbers * numbers % prime).reshape(84, count)
    values[:2] *= 640
    values[2:4] = 200 * prime + 100 * values[2:4]
    values[4:] = np.maximum(values[4:] - 980_000, 0)
    return np.asarray(values[None] / prime, np.float32)


def test_yolos_boxes_are_the_references() -> None:
    """Best class alone, suppressed within each class, at most 300 of 900.

    Counts and digests are those of non_max_suppression (conf 0.001, iou 0.7, max_det
    300) of ultralytics 8.3.214 and 8.4.190, its columns put in this order.
    """
    found = outputs.read_yolo([make_predictions(900)], 1)[0]
    plain = outputs.read_yolo([make_predictions(40)], 1)[0]

    assert len(found) == outputs.YOLO_MOST
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "7fb96d61c5b8cef7"
    assert len(plain) == 9
    assert hashlib.sha256(plain.tobytes()).hexdigest()[:16] == "0c86b7e697448ccc"


def test_yolos_labels_are_cocos_categories() -> None:
    """Its 80 classes in the order of COCO's 90 numbers; boxes stay in pixels."""
    output = np.zeros((2, 84, 3), np.float32)
    output[0, :4, 1] = [100, 200, 20, 40]
    output[0, [4 + 11, 4 + 79], 1] = [0.5, 0.25]
    output[1, 4 + 79, 2] = 0.002
    output[1, 4, 0] = 0.001
    found = outputs.read_yolo([output], 2)

    assert found[0].tolist() == [[180, 90, 220, 110, 0.5, 13]]
    assert found[1][:, 5].tolist() == [90]


def test_wrong_outputs_of_yolo_are_refused() -> None:
    """Another number of classes, of samples, of outputs; NaN."""
    good = np.zeros((2, 84, 3), np.float32)
    bad = good.copy()
    bad[1, 50, 2] = np.nan

    for wrong, words in (
        (
            [good[:, :-1]],
            r"shape \[2, 3, 83\] .* should be output0\.T \[batch, n, 84\]",
        ),
        ([good[:1]], "for a batch of 2, but should be "),
        ([good, good], "returned 2 outputs, but should return 1"),
        ([bad], r"output output0\.T has NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=words):
            outputs.read_yolo(wrong, 2)


def test_raw_outputs_of_another_size_are_refused() -> None:
    """An engine that was built for another input has other anchors."""
    with pytest.raises(ValueError, match="have 15 and 16 anchors, but should have 16"):
        READ_RAW([np.ones((2, 15, 2)), np.ones((2, 16, 4))], 2)
