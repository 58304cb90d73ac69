"""Anchors, box decoding and suppression."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.benchmarks.detection import boxes
from pytest_mlperf.benchmarks.detection.boxes import Floats
from pytest_mlperf.benchmarks.detection.boxes import Level


def draw_boxes(random: np.random.Generator, count: int) -> Floats:
    low, size = (
        random.uniform(0, 0.6, (count, 2)),
        random.uniform(0.05, 0.4, (count, 2)),
    )
    return np.concatenate([low, low + size], axis=1).astype(np.float32)


def test_anchors_lie_at_the_centers_of_cells_row_by_row() -> None:
    """Two sizes in each of four cells, then the next level's single cell."""
    anchors = boxes.make_anchors(16, [Level(8, (4.0, 8.0)), Level(16, (16.0,))])

    assert anchors[:4].tolist() == [
        [0.25, 0.25, 0.25, 0.25],
        [0.25, 0.25, 0.5, 0.5],
        [0.75, 0.25, 0.25, 0.25],
        [0.75, 0.25, 0.5, 0.5],
    ]
    assert anchors[4].tolist() == [0.25, 0.75, 0.25, 0.25]
    assert anchors[-1].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert anchors.dtype == np.float32


@given(seed=st.integers(0, 2**32))
@settings(max_examples=30)
def test_decoding_undoes_encoding(seed: int) -> None:
    """A box comes back from any anchor's outputs, wherever the anchor is."""
    random = np.random.default_rng(seed)
    true = draw_boxes(random, 9)
    anchors = random.uniform(0.1, 0.9, (9, 4)).astype(np.float32)
    decoded = boxes.decode_boxes(boxes.encode_boxes(true, anchors), anchors)

    assert decoded == pytest.approx(true, abs=1e-5)


def test_wild_outputs_stay_in_the_picture() -> None:
    """An untrained or broken engine overflows nothing."""
    deltas = np.array([[1e6, -1e6, 1e6, 1e6], [0, 0, -1e6, 0]], np.float32)
    decoded = boxes.decode_boxes(deltas, np.full((2, 4), 0.5, np.float32))

    assert np.isfinite(decoded).all()
    assert 0 <= decoded.min() <= decoded.max() <= 1


def test_overlap_is_intersection_over_union() -> None:
    """Half of one box and a third of the union; nothing of a box far away."""
    left = np.array([[0, 0, 0.2, 0.2]], np.float32)
    right = np.array([[0.1, 0, 0.3, 0.2], [0.5, 0.5, 0.6, 0.6]], np.float32)

    assert boxes.compute_overlaps(left, right)[0] == pytest.approx([1 / 3, 0])


def suppress_plainly(
    rows: Floats, scores: Floats, classes: np.ndarray, overlap: float
) -> list[int]:
    """The definition, box by box."""
    stay: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        rivals = [s for s in stay if classes[s] == classes[row]]
        overlaps = boxes.compute_overlaps(rows[[row]], rows[rivals])
        if not (overlaps > overlap).any():
            stay.append(row)
    return stay


@given(seed=st.integers(0, 2**32), count=st.integers(0, 25))
@settings(max_examples=60)
def test_suppression_is_its_definition(seed: int, count: int) -> None:
    """The better of two boxes of a class stays; classes do not touch each other."""
    random = np.random.default_rng(seed)
    rows = draw_boxes(random, count)
    scores = random.integers(0, 5, count).astype(np.float32)  # with ties
    classes = random.integers(0, 3, count)
    stay = boxes.suppress_overlaps(rows, scores, classes, 0.3)

    assert stay.tolist() == suppress_plainly(rows, scores, classes, 0.3)


def test_a_limited_suppression_keeps_the_first_of_all() -> None:
    """Block by block as at once, equal scores among them; and then it stops."""
    random = np.random.default_rng(8)
    many = draw_boxes(random, 3 * boxes.BLOCK)
    scores = random.integers(0, 99, len(many)).astype(np.float32)
    classes = random.integers(0, 3, len(many))
    all_of_them = boxes.suppress_overlaps(many, scores, classes, 0.5)

    for most in (1, 50, len(many)):
        found = boxes.suppress_until(many, scores, classes, 0.5, most)
        assert found.tolist() == all_of_them[:most].tolist()
    assert (
        boxes.suppress_until(many[:0], scores[:0], classes[:0], 0.5, 9).tolist() == []
    )
