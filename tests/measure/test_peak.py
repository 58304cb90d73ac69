"""The peak that an item runs at, and when it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_mlperf.api.engine import Streams
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.peak import PeakFinder
from pytest_mlperf.measure.peak_cache import KnownPeak
from pytest_mlperf.measure.placement import place
from pytest_mlperf.measure.rig import open_rig
from pytest_mlperf.measure.session import MeasureSession
from pytest_mlperf.sut.tuned_load import Tuned
from pytest_mlperf.tuning.peak_search import UNCONFIRMED
from pytest_mlperf.tuning.peak_search import Peak

FOUND = KnownPeak(
    Peak(UNCONFIRMED, 900.0, 910.0), Tuned(Streams(1, 1), 1, target_qps=900.0)
)


@pytest.mark.parametrize("remedy", ["", "retargeted: target_qps 900 to 765"])
def test_a_peak_is_kept_where_the_run_at_its_load_was_valid(
    tmp_path: Path, make_verdict: Callable[..., Verdict], remedy: str
) -> None:
    """The VALID run that --mlperf-retarget made of an INVALID one had a lower load."""
    options = Options(
        benchmark=("resnet50",), scenario=("server",), engine=("null",),
        reports=tmp_path / "reports", cache=tmp_path / "cache",
    )  # fmt: skip
    session = MeasureSession.start(options)
    (cell,) = find_cells(options)
    verdict = make_verdict(facts={RETARGETED: remedy} if remedy else {})
    with open_rig(session, place(session)) as rig:
        task = rig.plan(cell, Mode.PERFORMANCE, "performance")
        finder = PeakFinder(rig, task)
        finder.keep_confirmed(FOUND, verdict)
        known = finder.find_cached()

    assert verdict.valid
    assert (known is None) == bool(remedy)
    assert known is None or known.tuned == FOUND.tuned
