"""Every compliance test of every cell: an audited run beside its performance run."""

from __future__ import annotations

import pytest

from pytest_mlperf.core.cell import Cell
from pytest_mlperf.measure.under_test import Measure


@pytest.mark.mlperf(mode="compliance")
def test_compliance(cell: Cell, audit: str, measure: Measure) -> None:
    """The audited run confirms what performance and accuracy run claim."""
    verdict = measure(cell, audit)

    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)
