"""Cells by name, as a table of their rounds has them."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.types import Scenario


def cell_of(
    benchmark: str,
    target: str,
    scenario: Scenario,
    engine: str = "null",
    round_name: str = "v6.1",
) -> Cell:
    """Return the cell of a round's rule; of resnet50's for a benchmark of the tests."""
    table = rounds.get(round_name)
    rule = table.find(benchmark, target, scenario)
    if rule is None:
        other = table.find("resnet50", "", scenario)
        assert other is not None
        rule = replace(other, benchmark=benchmark, target=target)
    return Cell(rule, engine)
