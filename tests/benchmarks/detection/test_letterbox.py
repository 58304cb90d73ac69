"""Letterboxed pictures and the way back; the recorded numbers are Ultralytics'.

They were computed by ``LetterBox`` and ``scale_boxes`` of ultralytics 8.4 with OpenCV
5.0, on the same made-up pictures and boxes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.benchmarks.detection.letterbox import Bytes
from pytest_mlperf.benchmarks.detection.letterbox import Letterbox
from pytest_mlperf.benchmarks.detection.letterbox import find_inset
from pytest_mlperf.benchmarks.detection.letterbox import letterbox
from pytest_mlperf.benchmarks.detection.letterbox import resize_bytes

SIDE = 64


def make_picture(height: int, width: int) -> Bytes:
    """Return a picture without pattern, the same on every machine."""
    numbers = np.arange(height * width * 3, dtype=np.int64)
    return (numbers * numbers % 1009 % 256).astype(np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize(
    ("height", "width", "inset"),
    [
        (480, 640, (480, 640, 80, 0)),
        (427, 640, (427, 640, 106, 0)),
        (640, 425, (640, 425, 0, 107)),
        (333, 500, (426, 640, 107, 0)),
        (1, 1000, (1, 640, 319, 0)),
    ],
)
def test_pictures_lie_in_the_middle(
    height: int, width: int, inset: tuple[int, int, int, int]
) -> None:
    """The smaller half of an odd rest is above and at the left."""
    at = find_inset(height, width, 640)

    assert (at.height, at.width, at.top, at.left) == inset


@pytest.mark.parametrize(
    ("height", "width", "digest"),
    [
        (48, 64, "6a0a744d2f185719"),
        (40, 31, "d7c7a366c2dc5d1b"),
        (33, 50, "1c1df8fab9dcdb87"),
        (128, 128, "26812055245cb07f"),
        (200, 90, "f6ed6e5560feed42"),
    ],
)
def test_a_letterboxed_picture_is_the_references(
    height: int, width: int, digest: str
) -> None:
    """As it is, enlarged, halved and made smaller by an odd factor."""
    square = letterbox(make_picture(height, width), SIDE)

    assert square.shape == (SIDE, SIDE, 3)
    assert hashlib.sha256(square.tobytes()).hexdigest()[:16] == digest


@settings(max_examples=25)
@given(width=st.integers(1, 60), height=st.integers(1, 60), side=st.integers(1, 50))
def test_a_plain_picture_stays_plain(width: int, height: int, side: int) -> None:
    """Any size to any size: weights add up to one in both directions."""
    resized = resize_bytes(np.full((height, width, 3), 199, np.uint8), side, side)

    assert set(resized.ravel().tolist()) == {199}


def test_boxes_come_back_to_their_picture() -> None:
    """Cut at its edges, as shares of its sides; what stands behind a box stays."""
    sizes = np.array([[480, 640], [333, 500]])
    rows = np.array([[80, 0, 560, 640, 0.9, 3], [0, 160, 320, 700, 0.5, 90]])
    rows = rows.astype(np.float32)
    box = Letterbox(640, sizes)

    assert box.restore(rows, 0).tolist() == [
        [0, 0, 1, 1, np.float32(0.9), 3],
        [0, 0.25, 0.5, 1, 0.5, 90],
    ]
    # 333 rows became 426, from 107 on.
    assert box.restore(rows, 1)[1].tolist() == [0, 0.25, 0.5, 1, 0.5, 90]
