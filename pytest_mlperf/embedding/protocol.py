"""What a tier below the cache must offer: rows by key, whole and up to date."""

from __future__ import annotations

from typing import Any
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters

Keys = NDArray[np.int64]
"""Rows of the array of all tables: int64 [keys]."""


class StoreFailed(RuntimeError):
    """A tier is gone or damaged; the message names it and what to do."""


class RowSource(Protocol):
    """A tier that holds every row: host memory or a database."""

    @property
    def name(self) -> str: ...

    @property
    def counters(self) -> TierCounters: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows: float16 or float32; uint8 of int8 rows (``row_format``)."""

    @property
    def width(self) -> int:
        """Elements of a row."""

    def fetch(self, keys: Keys) -> Array:
        """Return the rows of some keys: [keys, width].

        No row is torn by an update at the same time. Raises ``StoreFailed`` for a key
        that has no row, and when the tier does not answer.
        """

    def update(self, keys: Keys, rows: Array) -> None:
        """Write rows; durable once it returns, where the tier is."""

    def close(self) -> None: ...
