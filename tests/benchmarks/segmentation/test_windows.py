"""Sliding windows, their blending and the shape that they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.benchmarks.segmentation import windows
from pytest_mlperf.benchmarks.segmentation.volumes import fit_windows


@settings(max_examples=25)
@given(shape=st.tuples(*[st.integers(1, 40)] * 3), half=st.sampled_from([4, 8, 16]))
def test_windows_cover_every_voxel_of_a_fitted_volume(
    shape: tuple[int, int, int], half: int
) -> None:
    """A voxel in no window would have no scores, and be background."""
    side = 2 * half
    volume = fit_windows(np.zeros((1, *shape), np.float32), side, -2.2)
    seen = np.zeros(volume.shape, int)
    _, depth, height, width = volume.shape
    for start in windows.list_starts((depth, height, width), side):
        piece = windows.cut(seen, start, side)
        assert piece.shape[1:] == (side,) * 3
        piece += 1

    assert seen.min() >= 1


@settings(max_examples=25)
@given(shape=st.tuples(*[st.integers(1, 40)] * 3))
def test_fitting_keeps_the_middle_and_twice_is_once(
    shape: tuple[int, int, int],
) -> None:
    """It crops less than half a stride and pads with the given value."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
    fitted = fit_windows(values, 16, -1)

    assert np.array_equal(fit_windows(fitted, 16, -1), fitted)
    assert all(abs(a - b) < 16 for a, b in zip(fitted.shape, values.shape, strict=True))
    assert set(np.unique(fitted)) <= {-1.0, *values.ravel().tolist()}


def test_a_volume_is_fitted_as_the_reference_does() -> None:
    """Lengths that preprocess.py gave: cropped below half a stride, or padded."""
    lengths = (10, 16, 19, 20, 24, 39, 40)
    found = [fit_windows(np.zeros((n, 16, 16)), 16, 0).shape[0] for n in lengths]

    assert found == [16, 16, 16, 24, 24, 40, 40]


def test_importance_is_a_gaussian_of_an_eighth_of_the_side() -> None:
    """1 in the middle, symmetric, and at the corners what three Gaussians give."""
    importance = windows.make_importance(32)
    edge = np.exp(-(15.5**2) / (2 * 4.0**2)) / np.exp(-(0.5**2) / (2 * 4.0**2))

    assert (importance.dtype, importance.shape) == (np.dtype(np.float32), (32,) * 3)
    assert importance.max() == 1.0
    assert np.array_equal(importance, importance[::-1, ::-1, ::-1])
    assert importance[0, 0, 0] == pytest.approx(edge, rel=1e-5)


def test_the_scores_of_windows_are_weighted_by_their_importance() -> None:
    """Where two windows disagree, the one whose middle is nearer decides."""
    sums = windows.ScoreVolume((16, 16, 24), 2, windows.make_importance(16))
    scores = np.zeros((2, 16, 16, 16), np.float32)
    scores[0] = 1
    sums.add((0, 0, 0), scores)
    sums.add((0, 0, 8), scores[::-1])

    assert (sums.classify()[..., :12] == 0).all()
    assert (sums.classify()[..., 12:] == 1).all()
