"""The tuning of an engine that knows its speed: nothing is probed."""

from __future__ import annotations

from dataclasses import replace

from pytest_mlperf.api.engine import Simulated
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.sut.tuned_load import Tuned

LATENCY_SHARE = 0.95
"""Share of the service time that LoadGen is told to expect of a stream. It lists twice
the queries that this makes, so that they do not run out."""
SERVER_SHARE = 0.4
"""Share of a single stream's rate that Server is asked for: two services after one
another are then rare, and 15 ms are kept on a busy machine too."""
MANY = 100_000
"""From this many samples on, Offline runs in its largest batch: one pass over them
would otherwise take longer than the round's ten minutes."""


def tune(provider: Simulated, scenario: Scenario, given: Tuning, samples: int) -> Tuned:
    """Return how a cell of a dataset of that size runs, without running anything."""
    streams = provider.layouts(1)[-1]
    fixed_ms = provider.service_s(0) * 1e3
    note = f"simulated: {fixed_ms:.3g} ms a batch and "
    note += f"{provider.service_s(1) * 1e3 - fixed_ms:.3g} ms a sample"
    if scenario in (Scenario.SINGLE_STREAM, Scenario.MULTI_STREAM):
        size = 8 if scenario is Scenario.MULTI_STREAM else 1
        latency_s = provider.service_s(size) * LATENCY_SHARE
        if given.expected_latency_ms is not None:
            latency_s = given.expected_latency_ms / 1e3
        latency_ns = int(latency_s * 1e9)
        return Tuned(streams, size, expected_latency_ns=latency_ns, note=note)
    size = given.batch or provider.batches[-1 if samples >= MANY else 0]
    rate = size / provider.service_s(size)
    made = Tuned(streams, size, loop_rate=rate, note=note)
    # Offline issues 1.1 x this x the duration: enough, as the rate is never exceeded.
    qps = rate
    if scenario is not Scenario.OFFLINE:
        qps = SERVER_SHARE / provider.service_s(1)
    return replace(made, target_qps=given.target_qps or qps)
