"""From a detector's outputs to the objects that it found, one function a model.

Each returns one float32 array a sample, its rows ``y_min, x_min, y_max, x_max, score,
label`` with the best score first: the form of LoadGen's answers in the reference
implementation (its ``PostProcess…`` classes), without the sample's index. Boxes are
shares of the picture's sides. All raise ``ValueError`` for a wrong shape, for too few
samples, and for what is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.detection import boxes as box_math

Floats = NDArray[np.float32]
FindObjects = Callable[[Sequence[Array], int], list[Floats]]
"""Outputs of the model, number of samples -> what was found in each."""

LOWEST_SCORE = 0.05
"""Objects below it are dropped, as in the reference's profiles for RetinaNet and
SSD-ResNet34."""
LOWEST_LOGIT = np.float32(np.log(LOWEST_SCORE / (1 - LOWEST_SCORE)))
RETINANET_SIDE = 800
OVERLAP = 0.5
"""Of two boxes of a class with more, only the better one stays."""
CANDIDATES = 300
"""Boxes of a sample that suppression looks at, best first."""
MOST = 100
"""Boxes of a sample that remain: mAP looks at no more."""

YOLO_LOWEST = 0.001
"""``conf`` of the reference's yolo_loadgen.py."""
YOLO_OVERLAP = 0.7
YOLO_MOST = 300
"""``iou`` and ``max_det``, which it leaves at Ultralytics' defaults."""
YOLO_CLASS_STEP = np.float32(7680)
"""Pixels between the boxes of two classes, so that they do not overlap: the rounding
of so large numbers is part of the reference's answers."""
COCO_IDS = np.delete(np.arange(91), [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83])
"""YOLO's class -> COCO's category: ten of the 90 numbers have no objects."""


def check_outputs(outputs: Sequence[Array], size: int, *shapes: str) -> list[Array]:
    """Return the outputs with one row a sample.

    ``shapes`` names each output and its shape for the message, as in
    ``boxes [batch, n, 4]``. An output of one sample may lack the first axis, and a
    stack of such outputs may have an axis of one behind it.
    """
    if len(outputs) != len(shapes):
        raise ValueError(
            f"the engine returned {len(outputs)} outputs, but should return"
            f" {len(shapes)}: {', '.join(shapes)}; check which outputs it returns"
        )
    checked = []
    for output, shape in zip(outputs, shapes, strict=True):
        axes = shape.count(",") + 1
        array = np.asarray(output)
        if array.ndim == axes - 1 and size == 1:
            array = array[None]
        if array.ndim == axes + 1 and array.shape[1] == 1:
            array = array[:, 0]
        last = shape.rpartition(" ")[2].rstrip("]")
        is_wrong = last.isdecimal() and array.shape[-1:] != (int(last),)
        if array.ndim != axes or len(array) != size or is_wrong:
            raise ValueError(
                f"an output has the shape {list(np.shape(output))} for a batch of"
                f" {size}, but should be {shape}; check the engine and which outputs"
                " of the model it returns"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                f"the output {shape.split()[0]} has NaN or infinity, but should have"
                " finite numbers; check the engine's precision"
            )
        checked.append(array)
    return checked


def cut_rows(boxes: Floats, scores: Floats, labels: Array, count: int) -> Floats:
    """Return the first ``count`` objects of a sample as rows of six."""
    rows = np.empty((count, 6), np.float32)
    rows[:, :4] = boxes[:count]
    rows[:, 4] = scores[:count]
    rows[:, 5] = labels[:count].astype(np.int64)
    return rows


def count_until_lowest(scores: Floats) -> int:
    """Return the number of scores before the first one below ``LOWEST_SCORE``."""
    below = scores < LOWEST_SCORE
    return int(below.argmax()) if below.any() else len(scores)


def read_retinanet(outputs: Sequence[Array], size: int) -> list[Floats]:
    """Read boxes (x first, in pixels of 800), labels and scores, already suppressed."""
    boxes, labels, scores = check_outputs(
        outputs, size, "boxes [batch, n, 4]", "labels [batch, n]", "scores [batch, n]"
    )
    # In float32, as the reference divides.
    shares = boxes[..., [1, 0, 3, 2]] / np.float32(RETINANET_SIDE)
    return [
        cut_rows(box, score, label, count_until_lowest(score))
        for box, score, label in zip(shares, scores, labels, strict=True)
    ]


def read_ssd_mobilenet(outputs: Sequence[Array], size: int) -> list[Floats]:
    """Read count, boxes (y first, shares), scores and labels, already suppressed."""
    counts, boxes, scores, labels = check_outputs(
        [np.reshape(outputs[0], -1), *outputs[1:]],
        size,
        "num_detections [batch]",
        "detection_boxes [batch, n, 4]",
        "detection_scores [batch, n]",
        "detection_classes [batch, n]",
    )
    return [
        cut_rows(box, score, label, int(count))
        for box, score, label, count in zip(boxes, scores, labels, counts, strict=True)
    ]


def read_ssd_resnet34(outputs: Sequence[Array], size: int) -> list[Floats]:
    """Read boxes (y first, shares), labels and scores, already suppressed."""
    boxes, labels, scores = check_outputs(
        outputs,
        size,
        "detection_bboxes [batch, n, 4]",
        "detection_classes [batch, n]",
        "detection_scores [batch, n]",
    )
    return [
        cut_rows(box, score, label, count_until_lowest(score))
        for box, score, label in zip(boxes, scores, labels, strict=True)
    ]


def read_yolo(outputs: Sequence[Array], size: int) -> list[Floats]:
    """Read [batch, 84, n]: a box's center and size, then a score for each class.

    Boxes stay in pixels of the model's input. Of a box the best class alone counts, as
    in Ultralytics' ``non_max_suppression`` where ``predict`` calls it.
    """
    shape = f"output0.T [batch, n, {4 + len(COCO_IDS)}]"
    turned = check_outputs([np.swapaxes(o, -1, -2) for o in outputs], size, shape)
    return [_find_yolo(sample.T) for sample in turned[0]]


def _find_yolo(columns: Floats) -> Floats:
    best = columns[4:].max(axis=0)
    found = np.flatnonzero(best > YOLO_LOWEST)
    columns, scores = columns[:, found], best[found]
    classes = columns[4:].argmax(axis=0)
    half = columns[2:4] / 2
    boxes = np.concatenate([columns[:2] - half, columns[:2] + half]).T
    apart = boxes + classes[:, None].astype(np.float32) * YOLO_CLASS_STEP
    stay = box_math.suppress_until(apart, scores, classes, YOLO_OVERLAP, YOLO_MOST)
    labels = COCO_IDS[classes[stay]]
    return cut_rows(boxes[stay][:, [1, 0, 3, 2]], scores[stay], labels, len(stay))


def select_objects(
    logits: Floats, deltas: Floats, anchors: Floats, labels: NDArray[np.int64]
) -> Floats:
    """Return what remains of a sample's candidates after suppression, as rows."""
    if len(logits) > CANDIDATES:
        best = np.argsort(-logits, kind="stable")[:CANDIDATES]
        logits, deltas = logits[best], deltas[best]
        anchors, labels = anchors[best], labels[best]
    boxes = box_math.decode_boxes(deltas, anchors)
    scores = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    stay = box_math.suppress_overlaps(boxes, scores, labels, OVERLAP)[:MOST]
    return cut_rows(boxes[stay][:, [1, 0, 3, 2]], scores[stay], labels[stay], len(stay))


def make_candidate_reader(anchors: Floats) -> FindObjects:
    """Return the reader of a graph that picks its candidates itself.

    Its outputs are logits, anchors, labels and box deltas of each candidate.
    """
    shapes = (
        "logits [batch, n]",
        "anchors [batch, n]",
        "labels [batch, n]",
        "deltas [batch, n, 4]",
    )

    def find_in(logits: Floats, own: Array, labels: Array, deltas: Floats) -> Floats:
        found = logits > LOWEST_LOGIT
        picked = own[found].astype(np.int64)
        classes = labels[found].astype(np.int64)
        return select_objects(logits[found], deltas[found], anchors[picked], classes)

    def read(outputs: Sequence[Array], size: int) -> list[Floats]:
        columns = check_outputs(outputs, size, *shapes)
        return [find_in(*of_sample) for of_sample in zip(*columns, strict=True)]

    return read


def make_reader(anchors: Floats, classes: int) -> FindObjects:
    """Return the reader of raw outputs, logits and box deltas of each anchor.

    Labels are 1 for the first class. Suppression is ours: a graph with it would run
    on few engines.
    """
    shapes = (
        f"class_logits [batch, {len(anchors)}, {classes}]",
        f"box_deltas [batch, {len(anchors)}, 4]",
    )

    def find_in(logits: Floats, deltas: Floats) -> Floats:
        rows, columns = np.nonzero(logits > LOWEST_LOGIT)
        found = logits[rows, columns]
        return select_objects(found, deltas[rows], anchors[rows], columns + 1)

    def read(outputs: Sequence[Array], size: int) -> list[Floats]:
        logits, deltas = check_outputs(outputs, size, *shapes)
        if logits.shape[1] != len(anchors) or deltas.shape[1] != len(anchors):
            raise ValueError(
                f"outputs have {logits.shape[1]} and {deltas.shape[1]} anchors, but"
                f" should have {len(anchors)}; check the size of the engine's input"
            )
        return [find_in(*pair) for pair in zip(logits, deltas, strict=True)]

    return read
