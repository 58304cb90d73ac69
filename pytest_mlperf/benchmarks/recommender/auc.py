"""How good click probabilities are, by scikit-learn's definitions: ``roc_auc_score``,
``log_loss``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def measure_auc(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the share of (positive, negative) pairs in the right order; ties are half.

    Takes labels of 0 and 1 and as many scores. Raises ``ValueError`` where all labels
    are the same, because the area is then undefined.
    """
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(
            f"{positives:,} of {len(labels):,} labels are 1, but the area under the "
            "ROC curve needs both 0 and 1: score more samples"
        )
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # Equal scores share the mean of their ranks (Mann-Whitney's U).
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    first = np.append(0, last[:-1] + 1)
    ranks = (first + last) / 2 + 1
    hits = np.add.reduceat((labels[order] != 0).astype(np.int64), first)
    wins = float(hits @ ranks) - positives * (positives + 1) / 2
    return wins / (positives * negatives)


def measure_loss(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the mean of -log of the probability that each label was given, in nats.

    Takes labels of 0 and 1 and as many probabilities of a 1.
    """
    given = np.where(labels != 0, scores, 1 - scores.astype(np.float64))
    least = np.finfo(np.float32).eps
    return float(-np.log(np.clip(given, least, 1)).mean())
