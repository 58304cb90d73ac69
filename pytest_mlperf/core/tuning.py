"""The user's choices of how a cell runs, before anything is probed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a system file or the command line fixes; None is left to the probe."""

    batch: int | None = None
    streams: int | None = None
    threads: int | None = None
    max_delay_ms: float | None = None
    preferred: tuple[int, ...] = ()
    target_qps: float | None = None
    expected_latency_ms: float | None = None
    precision: str | None = None
