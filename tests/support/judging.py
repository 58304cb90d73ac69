"""How the tests of the judge ask it: resnet50 under v6.1 unless they say other."""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.core import rounds
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Check
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import logs
from tests.support.cells import cell_of

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
SLOW = logs.rising(60_500, 5_000_000, 30_000_000)
FEW_LATE = [*logs.rising(600, 5_000_000, 12_000_000), *[16_000_000] * 5]


def verdict(
    folder: Path,
    scenario: str,
    mode: Mode = Mode.PERFORMANCE,
    context: Context | None = None,
    name: str = "resnet50",
) -> Verdict:
    """Judge a folder as resnet50 under v6.1."""
    kind = Scenario.parse(scenario)
    return judge(folder, cell_of(name, "", kind), mode, context or Context())


def named(found: Verdict, name: str) -> Check:
    """Return the one check of that name."""
    return next(check for check in found.checks if check.name == name)


def failed(found: Verdict) -> set[str]:
    """Return the names of the checks that did not pass."""
    return {check.name for check in found.checks if check.status is not Status.PASS}


def is_refused(found: Verdict, name: str) -> None:
    """A check failed, and says what was found, what it should be, where, what to do."""
    broken = named(found, name)
    assert broken.status is Status.FAIL
    assert broken.where.startswith("mlperf_log_")
    assert all((broken.found, broken.required, broken.remedy))


def fast(scenario: str, seconds: int, samples: int = 1024) -> Settings:
    """Return a shortened run's settings."""
    table = rounds.get("v6.1")
    kind = Scenario.parse(scenario)
    names = ("min_duration", "min_query_count", "min_sample_count")
    return Settings(
        model="resnet50",
        scenario=kind,
        mode=Mode.PERFORMANCE,
        seeds=table.seeds,
        min_duration_ms=seconds * 1000,
        min_query_count=1,
        performance_sample_count=samples,
        waived=dict.fromkeys(names, "--fast"),
    )
