"""Every cell as a performance run: LoadGen measures, the round's rules judge."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.under_test import Measure


@pytest.mark.mlperf(mode="performance")
def test_performance(cell: Cell, measure: Measure) -> None:
    """The run is VALID under every rule of its round."""
    verdict = measure(cell)

    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)
