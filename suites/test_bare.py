"""The bare engine of every model, timed by pytest-benchmark: no LoadGen, no rules.

Collected where it is named, or with --benchmark-only; its save and compare work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import pytest

if TYPE_CHECKING:
    from pytest_mlperf.core.cell import Cell
    from pytest_mlperf.measure.under_test import EngineUnderTest

BATCHES = 10
"""Batches a round: asking the process that has the engine takes 0.1 ms."""


@pytest.mark.parametrize("size", [1, 8], ids="batch{}".format)
@pytest.mark.mlperf(mode="bare", scenario="offline")
def test_bare(cell: Cell, size: int, engine: EngineUnderTest, benchmark: Any) -> None:
    """Ten batches, one after another, on the layout for latency."""
    benchmark.group = f"{cell.model}, {BATCHES} batches of {size}"
    benchmark.extra_info.update(
        samples=BATCHES * size, build=engine.digest, precision=engine.build.precision
    )

    seconds = benchmark.pedantic(
        engine.time_batches, args=(size, BATCHES), rounds=10, warmup_rounds=1
    )

    assert len(seconds) == BATCHES
