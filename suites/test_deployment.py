"""Each model as it is deployed: configuration, accuracy, batching in numbers.

Collected where it is named. The tables are in the reports folder too, as Markdown and
CSV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_mlperf.core.cell import Cell
    from pytest_mlperf.measure.deployment import DeploymentReport
    from pytest_mlperf.measure.under_test import EngineUnderTest
    from pytest_mlperf.measure.under_test import Measure


@pytest.mark.mlperf(mode="accuracy", scenario="offline")
def test_deployment(
    cell: Cell,
    engine: EngineUnderTest,
    measure: Measure,
    deployment_report: DeploymentReport,
) -> None:
    """The deployed model is as accurate as its target asks; its speed is a table."""
    for size in deployment_report.list_batches(engine):
        deployment_report.measure(engine, size)
    if engine.is_served:
        deployment_report.measure_online(engine)
    verdict = measure(cell)
    deployment_report.write(engine, verdict)

    if not verdict.valid:
        pytest.fail(verdict.explain(), pytrace=False)
