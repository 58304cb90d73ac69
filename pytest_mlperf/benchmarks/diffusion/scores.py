"""CLIP score and Fréchet Inception Distance of a benchmark's pictures."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array

Floats = NDArray[np.float64]
Judge = Callable[[Array, Sequence[str]], tuple[Floats, Floats]]
"""Pictures uint8 [n, side, side, 3] and their captions -> the cosine of the angle
between each pair's places [n], and features [n, width]."""
BATCH = 32


@dataclass(frozen=True, slots=True)
class Statistics:
    """A normal distribution of features: of the real pictures."""

    mean: Floats
    covariance: Floats

    @classmethod
    def read(cls, path: Path) -> Statistics:
        """Read ``mu`` and ``sigma`` of an npz file; ``ValueError`` for another one."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = cls(arrays["mu"][:], arrays["sigma"][:])
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise ValueError(
                f"{path} is no npz file with mu and sigma: {error}. Copy it again."
            ) from error
        width = len(found.mean)
        if found.covariance.shape != (width, width):
            raise ValueError(
                f"{path} has sigma of shape {found.covariance.shape}, but should have"
                f" {(width, width)} for mu of {width}. Copy it again."
            )
        return found


def measure_distance(one: Statistics, other: Statistics) -> float:
    """Return the Fréchet distance of two normal distributions (squared).

    The trace of the root of a product of covariances is the sum of the roots of its
    eigenvalues, which are real; the reference takes the root of the matrix.
    """
    eigenvalues = np.linalg.eigvals(one.covariance @ other.covariance)
    root = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    difference = one.mean - other.mean
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    return float(difference @ difference + traces - 2 * root)


def score_pictures(
    pictures: Sequence[Array], captions: Sequence[str], judge: Judge, real: Statistics
) -> dict[str, float]:
    """Return CLIP_SCORE (100 times the mean cosine) and FID_SCORE."""
    judged = [
        judge(np.stack(pictures[part]), captions[part])
        for part in split(len(pictures), BATCH)
    ]
    cosines = np.concatenate([cosine for cosine, _ in judged])
    features = np.concatenate([feature for _, feature in judged])
    made = Statistics(features.mean(axis=0), np.cov(features, rowvar=False))
    return {
        "CLIP_SCORE": 100 * float(cosines.mean()),
        "FID_SCORE": measure_distance(real, made),
    }


def split(total: int, size: int) -> Iterator[slice]:
    """Return slices of up to ``size`` that cover ``total``."""
    return (slice(start, start + size) for start in range(0, total, size))
