"""The remedy of an INVALID run, as a value and as a second run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_mlperf.config.options import Options
from pytest_mlperf.core import rounds
from pytest_mlperf.core.cell import Cell
from pytest_mlperf.core.checks.context import Context
from pytest_mlperf.core.checks.context import JudgedRun
from pytest_mlperf.core.checks.retarget import choose_retarget
from pytest_mlperf.core.early_stopping import is_proof
from pytest_mlperf.core.facts import RunFacts
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import RETARGETED
from pytest_mlperf.core.verdict import VERDICT_FILE
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.measure.cells import find_cells
from pytest_mlperf.measure.run import measure_cell
from pytest_mlperf.measure.session import MeasureSession
from tests.support import logs
from tests.support.judging import SLOW

SERVER = "Server"
FEW_LATE = [*logs.rising(700, 5_000_000, 12_000_000), *[16_000_000] * 2]


def judge(
    folder: Path, latencies: Sequence[int], facts: RunFacts | None = None
) -> JudgedRun:
    """Return a Server run of resnet50, whose bound is 15 ms."""
    log = Log.read(logs.performance(folder, SERVER, latencies=latencies))
    rule = rounds.get("v6.1").find("resnet50", "", Scenario.SERVER)
    assert rule is not None
    context = Context(run=facts or RunFacts())
    return JudgedRun(
        log, Cell(rule, "null"), Mode.PERFORMANCE, rounds.get("v6.1"), context
    )


def test_a_late_server_run_is_asked_for_less(tmp_path: Path) -> None:
    run = judge(tmp_path, SLOW)

    (pair,) = choose_retarget(run).items()

    assert pair[0] == "target_qps"
    assert 0 < pair[1] < run.log.number("effective_target_qps")


def test_a_run_with_few_late_ones_is_asked_for_more_queries(tmp_path: Path) -> None:
    """As many as prove the percentile if late ones come as they did."""
    run = judge(tmp_path, FEW_LATE)

    queries = int(choose_retarget(run)["queries"])

    assert not is_proof(len(FEW_LATE), 2, 0.99)
    assert is_proof(queries, round(2 * queries / len(FEW_LATE)), 0.99)


@pytest.mark.parametrize(
    "facts", [RunFacts(is_disturbed=True), RunFacts(throttled="3 times, 1 s in all")]
)
def test_a_run_that_others_spoiled_has_no_value(
    tmp_path: Path, facts: RunFacts
) -> None:
    """A quiet machine is the remedy, not another load."""
    assert choose_retarget(judge(tmp_path, SLOW, facts)) == {}


def test_a_bound_that_one_answer_misses_has_no_value(tmp_path: Path) -> None:
    late = logs.rising(60_500, 16_000_000, 30_000_000)

    assert choose_retarget(judge(tmp_path, late)) == {}


@pytest.mark.parametrize("retargets", [True, False])
def test_offline_that_was_over_too_soon_is_run_again(
    tmp_path: Path, *, retargets: bool
) -> None:
    """Once, with the measured rate; the verdict tells of both runs."""
    options = Options(
        benchmark=("resnet50",), scenario=("offline",), engine=("null",),
        target_qps=(("offline", 1000.0),), duration=0.2, retarget=retargets,
        reports=tmp_path / "reports", cache=tmp_path / "cache",
    )  # fmt: skip
    session = MeasureSession.start(options)
    (cell,) = find_cells(options)

    verdict = measure_cell(session, cell)

    files = sorted(session.reports.glob(f"logs/*/*/{VERDICT_FILE}"))
    first, *again = [Verdict.from_json(file.read_text()) for file in files]
    assert first.outcome == "INVALID"
    assert len(again) == retargets
    if not retargets:
        assert verdict.folder == first.folder
        return
    assert verdict.folder == again[0].folder
    assert verdict.facts == again[0].facts
    told = verdict.facts[RETARGETED]
    assert told.startswith("retargeted: target_qps 1000.0 to ")
    assert told.endswith(first.folder)
    assert told in verdict.explain()
    assert verdict.metric is not None
    assert (verdict.actual_s or 0) > (first.actual_s or 0)
