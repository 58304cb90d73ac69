"""Settings of a resnet50 run in v6.1, whatever its scenario and mode."""

from __future__ import annotations

from pytest_mlperf.core import rounds
from pytest_mlperf.core.plan import Shortening
from pytest_mlperf.core.plan import plan_settings
from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support.doubles import rule_for

SCENARIOS = (
    Scenario.SINGLE_STREAM,
    Scenario.MULTI_STREAM,
    Scenario.OFFLINE,
    Scenario.SERVER,
)
FAST = Shortening(60_000, "--fast")
SEEDS = rounds.get("v6.1").seeds
ENOUGH = 50_000


def plan_resnet50(
    scenario: Scenario = Scenario.OFFLINE,
    mode: Mode = Mode.PERFORMANCE,
    *,
    available: int = ENOUGH,
    shortening: Shortening | None = None,
) -> Settings:
    """Return the settings of a resnet50 run with a tuning."""
    stream = scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM)
    return plan_settings(
        rule_for(scenario),
        SEEDS,
        mode,
        available=available,
        shortening=shortening,
        target_qps=None if stream else 123.456,
        expected_latency_ns=1_500 if stream else None,
    )
