"""How engines are spread over CPUs."""

from __future__ import annotations

from pytest_mlperf.api.engine import Streams

MAX_STREAMS = 16
"""Every stream holds the weights; a machine of more CPUs gets wider streams."""


def spread_over_cpus(cpus: int) -> tuple[Streams, ...]:
    """Return many narrow streams, a quarter as many wider ones, and one of all CPUs."""
    many = min(cpus, MAX_STREAMS)
    few = max(1, many // 4)
    spread = {Streams(many, cpus // many), Streams(few, cpus // few)}
    latency = Streams(1, cpus)
    ordered = sorted(spread - {latency}, key=lambda s: -s.count)
    return (*ordered, latency)
