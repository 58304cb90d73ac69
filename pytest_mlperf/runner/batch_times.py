"""What batches took without LoadGen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """What batches took, one after another or several at a time."""

    seconds: tuple[float, ...]
    steps_us: Mapping[str, float] = field(default_factory=dict)
    """Step of a request or batch -> its mean time; empty where nobody tells it."""
    why_no_steps: str = ""
    elapsed_s: float = 0.0
    """From the first one's start to the last one's end; 0: their sum."""

    @property
    def per_s(self) -> float:
        """Batches a second."""
        return len(self.seconds) / (self.elapsed_s or sum(self.seconds))
