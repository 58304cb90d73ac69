"""Anchors, box decoding and non-maximum suppression, in numpy.

Boxes are float32 rows ``x_min, y_min, x_max, y_max``; anchors are float32 rows
``x_center, y_center, width, height``. Both are shares of the picture's sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

VARIANCES = (0.1, 0.2)
"""Scales of a detector's center and size outputs (Liu et al. 2016, SSD)."""
LARGEST_GROWTH = 4.0
"""Bound on the logarithm of a box's size over its anchor's: no overflow."""
BLOCK = 512
"""Boxes that are compared with each other at a time."""


@dataclass(frozen=True, slots=True)
class Level:
    """The anchors of one feature map: squares around each cell's center."""

    stride: int
    """Pixels between cells."""
    sides: tuple[float, ...]
    """Of the squares, in pixels."""


def make_anchors(side: int, levels: Sequence[Level]) -> Floats:
    """Return the anchors of a square picture, ordered by level, row, column and size.

    ``side`` is in pixels, and a multiple of each level's stride.
    """
    rows = []
    for level in levels:
        cells = side // level.stride
        centers = (np.arange(cells) + 0.5) / cells
        grid = np.empty((cells, cells, len(level.sides), 4))
        grid[..., 0] = centers[None, :, None]
        grid[..., 1] = centers[:, None, None]
        grid[..., 2:] = np.array(level.sides)[:, None] / side
        rows.append(grid.reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)


def decode_boxes(deltas: Floats, anchors: Floats) -> Floats:
    """Return the boxes of a detector's outputs, cut at the picture's edges."""
    centers = anchors[:, :2] + deltas[:, :2] * VARIANCES[0] * anchors[:, 2:]
    growth = np.clip(deltas[:, 2:] * VARIANCES[1], -LARGEST_GROWTH, LARGEST_GROWTH)
    half = anchors[:, 2:] * np.exp(growth) / 2
    boxes = np.concatenate([centers - half, centers + half], 1)
    return np.asarray(np.clip(boxes, 0, 1), np.float32)


def encode_boxes(boxes: Floats, anchors: Floats) -> Floats:
    """Return the outputs that ``decode_boxes`` turns into these boxes, a row each."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    moves = (centers - anchors[:, :2]) / anchors[:, 2:] / VARIANCES[0]
    return np.concatenate(
        [moves, np.log(sizes / anchors[:, 2:]) / VARIANCES[1]], axis=1
    ).astype(np.float32)


def compute_overlaps(left: Floats, right: Floats) -> Floats:
    """Return intersection over union of each box with each: [left, right]."""
    return compare_columns(left.T[:, :, None], right.T[:, None])


def compare_columns(left: Floats, right: Floats) -> Floats:
    """Return intersection over union of boxes of [4, …], as their axes broadcast.

    A column at a time, because numpy is slow along an axis of two.
    """
    width = np.minimum(left[2], right[2]) - np.maximum(left[0], right[0])
    height = np.minimum(left[3], right[3]) - np.maximum(left[1], right[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (left, right)]
    union = areas[0] + areas[1] - shared
    return np.asarray(shared / np.maximum(union, np.float32(1e-12)), np.float32)


def suppress_overlaps(
    boxes: Floats, scores: Floats, classes: NDArray[np.int64], overlap: float
) -> NDArray[np.int64]:
    """Return the indices of the boxes that stay, highest score first.

    A box goes when one of its class with a higher score overlaps it by more than
    ``overlap``; equal scores count in the order of the rows.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, classes = boxes[order], classes[order]
    # Mostly few pairs are of one class, and few of those overlap.
    better, worse = np.nonzero(np.triu(classes[:, None] == classes, 1))
    columns = np.ascontiguousarray(boxes.T)
    pairs = columns.take(better, 1), columns.take(worse, 1)
    hit = compare_columns(*pairs) > overlap
    better, worse = better[hit], worse[hit]
    alive = np.ones(len(order), bool)
    firsts = np.flatnonzero(np.diff(better, prepend=-1))
    for first, last in zip(firsts, [*firsts[1:], None], strict=False):
        if alive[better[first]]:
            alive[worse[first:last]] = False
    return np.asarray(order[alive], np.int64)


def suppress_until(
    boxes: Floats,
    scores: Floats,
    classes: NDArray[np.int64],
    overlap: float,
    most: int,
) -> NDArray[np.int64]:
    """Return the first ``most`` of what ``suppress_overlaps`` returns.

    A block of boxes at a time, best first, so that an engine which calls everything an
    object costs neither minutes nor gigabytes.
    """
    order = np.argsort(-scores, kind="stable")
    kept = order[:0]
    for start in range(0, len(order), BLOCK):
        tried = np.concatenate([kept, order[start : start + BLOCK]])
        stay = suppress_overlaps(boxes[tried], scores[tried], classes[tried], overlap)
        kept = tried[stay][:most]
        if len(kept) == most:
            break
    return kept
