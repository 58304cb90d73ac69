"""A rehearsal's detection data: the official size, with scores as usual."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.detection import scores
from pytest_mlperf.benchmarks.detection.annotations import Annotations
from pytest_mlperf.benchmarks.detection.outputs import read_ssd_resnet34
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.benchmarks.standins.synthetic import MODEL
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticDataset
from pytest_mlperf.benchmarks.standins.synthetic import scatter

OBJECTS = 3
"""True boxes of a picture."""
HEIGHT, WIDTH = 480, 640
CLASSES = 20
"""Fewer than the official ones: scoring takes time for each class of each picture."""


def make_objects(
    indices: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return boxes [n, 3, 4] (y first, shares), labels [n, 3], scores [n, 3].

    They depend on the samples' numbers alone. Labels are 1 for the first class; the
    boxes of a sample lie beside each other.
    """
    drawn = scatter(indices, 5 * OBJECTS).reshape(-1, OBJECTS, 5)
    labels = 1 + np.floor(drawn[..., 0] * CLASSES)
    left = (np.arange(OBJECTS) + 0.4 * drawn[..., 1]) / OBJECTS
    right = left + (0.3 + 0.3 * drawn[..., 2]) / OBJECTS
    top = 0.5 * drawn[..., 3]
    bottom = top + 0.1 + 0.4 * drawn[..., 4]
    boxes = np.stack([top, left, bottom, right], axis=-1).astype(np.float32)
    confidence = np.broadcast_to(
        np.linspace(0.9, 0.7, OBJECTS, dtype=np.float32), labels.shape
    )
    return boxes, labels.astype(np.float32), confidence


def open_synthetic(
    benchmark: str, total: int, performance_count: int
) -> DetectionWorkload:
    """Open made-up pictures whose samples are the outputs of a perfect detector."""
    scores.require_evaluator()

    def truth(indices: NDArray[np.int64]) -> dict[str, Array]:
        boxes, labels, confidence = make_objects(indices)
        return {"boxes": boxes, "labels": labels, "scores": confidence}

    recipe = repr((benchmark, total, CLASSES, OBJECTS, HEIGHT, WIDTH, 1))
    return DetectionWorkload(
        kind="synthetic",
        title=f"synthetic: {total:,} made-up pictures of {OBJECTS} objects each, "
        f"{CLASSES} classes",
        digest=hashlib.sha256(recipe.encode()).hexdigest(),
        model=replace(MODEL, outputs=("boxes", "labels", "scores")),
        dataset=SyntheticDataset(total, performance_count, truth),
        reference={"mAP": 100.0},
        annotations=make_annotations(total),
        find=read_ssd_resnet34,
    )


def make_annotations(total: int) -> Annotations:
    """Return the true boxes of a number of made-up pictures."""
    boxes, labels, _ = make_objects(np.arange(total))
    scale = np.array([HEIGHT, WIDTH, HEIGHT, WIDTH], np.float32)
    corners = (boxes * scale).reshape(-1, 4)
    x, y = corners[:, 1].tolist(), corners[:, 0].tolist()
    width = (corners[:, 3] - corners[:, 1]).tolist()
    height = (corners[:, 2] - corners[:, 0]).tolist()
    names = labels.reshape(-1).astype(int).tolist()
    annotations = [
        {
            "id": number + 1,
            "image_id": number // OBJECTS + 1,
            "category_id": names[number],
            "bbox": [x[number], y[number], width[number], height[number]],
            "area": width[number] * height[number],
            "iscrowd": 0,
        }
        for number in range(total * OBJECTS)
    ]
    images = [
        {"id": n + 1, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH}
        for n in range(total)
    ]
    categories = [{"id": n + 1, "name": str(n + 1)} for n in range(CLASSES)]
    return Annotations(
        {"images": images, "annotations": annotations, "categories": categories}
    )
