"""Every cell as an accuracy run: the whole dataset, through the same path."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.under_test import Measure


@pytest.mark.mlperf(mode="accuracy")
def test_accuracy(cell: Cell, measure: Measure) -> None:
    """The answers reach the target's share of the fp32 reference."""
    verdict = measure(cell)

    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)
