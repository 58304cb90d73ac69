"""Engines whose batches are bounded by their device's memory."""

from __future__ import annotations

from typing import Protocol
from typing import runtime_checkable

from pytest_mlperf.api.engine import Build


@runtime_checkable
class BoundsBatches(Protocol):
    """A provider some of whose models take much memory for each sample of a batch."""

    def largest_batch(self, build: Build, streams: int) -> int | None:
        """Return the samples of a batch for which so many streams have memory; None
        where any batch fits. The probe tries no larger ones.
        """
