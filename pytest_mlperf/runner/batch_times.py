"""What batches took without LoadGen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What batches took, one after another."""

    seconds: tuple[float, ...]
    steps_us: Mapping[str, float] = field(default_factory=dict)
    """Step of a request -> its mean time, where a server tells it."""
    why_no_steps: str = ""
