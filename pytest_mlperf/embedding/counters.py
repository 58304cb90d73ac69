"""What a tier of the embedding store did: counted where it is done."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pytest_mlperf.api.samples import Array


@dataclass(slots=True)
class TierCounters:
    """Counts since the store was opened."""

    hits: int = 0
    misses: int = 0
    inserts: int = 0
    evictions: int = 0
    defaults: int = 0
    """Vectors that were missing and taken from the default instead."""
    bytes: int = 0
    """Of the rows that were handed out."""
    calls: int = 0
    seconds: float = 0.0

    def note_fetch(self, rows: Array, began: float) -> None:
        """Count rows that were all there; ``began``: on ``time.perf_counter``."""
        self.hits += len(rows)
        self.bytes += rows.nbytes
        self.calls += 1
        self.seconds += time.perf_counter() - began

    @property
    def hit_rate(self) -> float:
        """Share of the keys that were there; 0 before the first lookup."""
        return self.hits / (self.hits + self.misses or 1)

    def describe(self) -> str:
        """Return one line for people."""
        parts = [f"hit rate {self.hit_rate:.2%} of {self.hits + self.misses:,} keys"]
        if self.inserts:
            parts.append(f"{self.inserts:,} inserts, {self.evictions:,} evictions")
        if self.defaults:
            parts.append(f"{self.defaults:,} missing rows took the default vector")
        parts.append(f"{self.bytes / 1e6:,.1f} MB")
        mean = self.seconds / (self.calls or 1)
        parts.append(f"{mean * 1e6:,.0f} us a lookup")
        return ", ".join(parts)
