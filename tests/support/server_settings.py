"""What LoadGen is asked for in a Server run of ten seconds."""

from __future__ import annotations

from pytest_mlperf.core.settings import Settings
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.types import Seeds

SERVER = Settings(
    model="resnet50",
    scenario=Scenario.SERVER,
    mode=Mode.PERFORMANCE,
    seeds=Seeds(qsl=1, sample_index=2, schedule=3),
    min_duration_ms=10_000,
    min_query_count=459,
    performance_sample_count=64,
    target_qps=1000.0,
    target_latency_ns=15_000_000,
    percentile=0.99,
)
