"""How much of a run is done whose longest samples come first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pytest_mlperf.api.samples import Array

WorkShare = Callable[[float], float]
"""Share of the samples that are answered -> share of the run's work that they were."""


def share_equally(answered: float) -> float:
    """Return it where all samples are alike, or come in any order."""
    return answered


def share_by_length(lengths: Array | None) -> WorkShare:
    """Return the shares of samples that come longest first, where work is length.

    ``lengths``: of the dataset, which has them in the run's proportions; or None.
    """
    if lengths is None or not len(lengths):
        return share_equally
    work = np.cumsum(np.sort(lengths)[::-1], dtype=np.float64)
    done = np.concatenate([[0.0], work / work[-1]])
    answered = np.linspace(0.0, 1.0, len(done))
    return lambda share: float(np.interp(share, answered, done))
