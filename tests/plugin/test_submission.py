"""What a session that is to end in a submission refuses before it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.system import detect_system
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.plugin.submission import refuse_hopeless
from tests.support.cells import cell_of


def test_benchmarks_that_no_round_has_are_refused_before_they_run(
    tmp_path: Path,
) -> None:
    """In either division they were left out at the end, after all of their runs."""
    cell = cell_of("resnet50", "", Scenario.OFFLINE)
    own = replace(cell, rule=replace(cell.rule, benchmark="leads"))
    options = Options(submission="ACME", category="edge", division="open", round="v6.1")
    session = MeasureSession(options, detect_system(rootdir=tmp_path), tmp_path)

    with pytest.raises(pytest.UsageError, match="leads by rules of their own: no rou"):
        refuse_hopeless(session, [], [own])
    with pytest.raises(pytest.UsageError) as refused:
        refuse_hopeless(session, [], [own, cell])
    assert "leads" not in str(refused.value)
