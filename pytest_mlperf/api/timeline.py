"""Where a stream's batches spent their time, by the device's own clock."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

import numpy as np

PARTS = ("queue", "copy in", "compute", "copy out")
MOST_BATCHES = 200_000
"""Batches that a run is remembered for, some 20 MB."""


@dataclass(slots=True)
class Timeline:
    """One row a batch: ms in each of ``PARTS``, then the batch's samples.

    ``queue`` is what the host saw beyond the device's own time: launching, waiting for
    the device to begin, and hearing that it is done.
    """

    rows: list[tuple[float, float, float, float, int]] = field(default_factory=list)

    def note(
        self, whole: float, copy_in: float, compute: float, copy_out: float, size: int
    ) -> None:
        """Keep one batch; ``whole`` is the host's time for it. All in ms."""
        if len(self.rows) < MOST_BATCHES:
            queue = max(0.0, whole - copy_in - compute - copy_out)
            self.rows.append((queue, copy_in, compute, copy_out, size))

    def clear(self) -> None:
        """Forget what probe and warm-up left."""
        self.rows.clear()


def summarize(lines: Iterable[Timeline]) -> Mapping[str, str]:
    """Return median, 99th percentile and the longest batch of each part, as facts."""
    rows = np.array([row for line in lines for row in line.rows], float)
    if not len(rows):
        return {}
    middle, tail = np.percentile(rows[:, :4], (50, 99), axis=0)
    parts = zip(PARTS, middle, tail, strict=True)
    # A stall of one batch in a thousand is in no percentile, but queries wait for it.
    longest = rows[rows[:, :4].sum(axis=1).argmax()]
    return {
        "device ms p50 / p99": ", ".join(f"{n} {a:.2f} / {b:.2f}" for n, a, b in parts),
        "longest batch ms": ", ".join(
            f"{name} {ms:.2f}" for name, ms in zip(PARTS, longest[:4], strict=True)
        ),
        "device batches": f"{len(rows):,} of {rows[:, 4].mean():.1f} samples",
    }
