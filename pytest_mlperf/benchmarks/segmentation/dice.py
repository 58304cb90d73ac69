"""The Dice score, as the reference's accuracy script computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMOOTH = 1e-6
"""Added above and below, so that a class that neither volume has scores 1."""

Labels = NDArray[np.uint8]


def score_classes(
    prediction: Labels, target: Labels, classes: int
) -> NDArray[np.float64]:
    """Return the Dice score of each class but the background: float64 [classes - 1].

    Source: accuracy_kits.py, get_dice_score. Both volumes have one shape.
    """
    # Counts of each pair of classes in one pass; the reference multiplies one-hot
    # volumes in float64, whose sums are the same whole numbers.
    pairs = np.bincount(
        prediction.reshape(-1).astype(np.intp) * classes + target.reshape(-1),
        minlength=classes * classes,
    ).reshape(classes, classes)
    both = pairs.diagonal()[1:].astype(np.float64)
    sizes = (pairs.sum(axis=0) + pairs.sum(axis=1))[1:]
    return np.asarray((2.0 * both + SMOOTH) / (sizes + SMOOTH), np.float64)
