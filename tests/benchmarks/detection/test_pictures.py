"""Pictures stretched to a square, in memory while loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from pytest_mlperf.benchmarks.detection.pictures import PictureFiles
from pytest_mlperf.benchmarks.detection.pictures import stretch


def test_stretching_interpolates_between_centers() -> None:
    """Two pixels to four: the outer ones repeat, the inner ones lie at 1/4 and 3/4.

    The numbers are OpenCV's (cv2.resize, INTER_LINEAR) for the same rows.
    """
    pixels = np.array([[[0, 0, 0], [100, 40, 8]]], np.float32).repeat(2, axis=0)

    assert stretch(pixels, 4)[0].tolist() == [
        [0, 0, 0],
        [25, 10, 2],
        [75, 30, 6],
        [100, 40, 8],
    ]


def test_shrinking_samples_without_smoothing() -> None:
    """Six columns to two: the means of none but the two nearest, as OpenCV has it."""
    row = np.array([0, 10, 20, 30, 40, 50], np.float32)
    pixels = row[None, :, None].repeat(6, axis=0).repeat(3, axis=2)

    assert stretch(pixels, 2)[0, :, 0].tolist() == [10, 40]


@settings(max_examples=25)
@given(width=st.integers(1, 60), height=st.integers(1, 60), side=st.integers(1, 50))
def test_a_plain_picture_stays_plain(width: int, height: int, side: int) -> None:
    """Any size to any size, no edge darker than the middle."""
    stretched = stretch(np.full((height, width, 3), [9, 99, 199]), side)

    assert stretched.shape == (side, side, 3)
    assert stretched.dtype == np.float32
    assert {tuple(p) for p in stretched.reshape(-1, 3).tolist()} == {(9, 99, 199)}


def test_pictures_are_there_while_loaded(tmp_path: Path) -> None:
    """Channels first or last, one row a sample, gone after unload."""
    for number, color in enumerate([(200, 100, 0), (0, 50, 250)]):
        Image.new("RGB", (40, 20), color).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.glob("*.png"))
    first = PictureFiles(files, 2, "images", 8, lambda pixels: pixels)
    last = PictureFiles(files, 2, "images", 8, lambda p: p.astype(np.uint8), False)
    first.load([0, 1])
    last.load([1])

    batch = first.gather([1, 0])["images"]
    assert (batch.shape, batch.dtype) == ((2, 3, 8, 8), np.dtype(np.float32))
    assert batch.flags.c_contiguous
    assert batch[:, :, 0, 0].tolist() == [[0, 50, 250], [200, 100, 0]]
    assert last.gather([1])["images"].shape == (1, 8, 8, 3)
    first.unload([0])
    with pytest.raises(KeyError):
        first.gather([0])
