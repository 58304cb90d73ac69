"""A cache in front of another tier: what is missing is fetched and inserted."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.row_cache import RowCache


class CachedSource:
    """Looks rows up in a cache, then in the source behind it. Closes the source."""

    def __init__(self, cache: RowCache, source: RowSource, name: str = "cache") -> None:
        self.cache, self.source, self.name = cache, source, name
        self._updates = 0
        self._updating, self._caching = threading.Lock(), threading.Lock()

    @property
    def counters(self) -> TierCounters:
        return self.cache.counters

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def width(self) -> int:
        return self.source.width

    def fetch(self, keys: Keys) -> Array:
        rows, is_hit = self.cache.lookup(keys)
        return self.complete(keys, rows, np.flatnonzero(~is_hit))

    def complete(self, keys: Keys, rows: Array, missing: Keys) -> Array:
        """Fill in the rows at the places that were missing, and insert them."""
        if len(missing):
            different, places = np.unique(keys[missing], return_inverse=True)
            rows[missing] = self.fetch_missing(different)[places]
        return rows

    def fetch_missing(self, keys: Keys) -> Array:
        """Return the source's rows of keys that differ, and insert them."""
        before = self._updates
        rows = self.source.fetch(keys)
        with self._caching:
            # A row that was updated since must not enter the cache as it was.
            if before == self._updates:
                self.cache.insert(keys, rows)
        return rows

    def update(self, keys: Keys, rows: Array) -> None:
        with self._updating:
            self.source.update(keys, rows)
            with self._caching:
                self._updates += 1
                self.cache.update(keys, rows)

    def describe(self) -> dict[str, str]:
        """Return a line for each tier, for people."""
        line = f"{self.cache.slots:,} rows ({self.cache.policy}); "
        line += self.counters.describe()
        below = self.source
        further = (
            below.describe()
            if isinstance(below, CachedSource)
            else {f"embedding {below.name}": below.counters.describe()}
        )
        return {f"embedding {self.name}": line, **further}

    def close(self) -> None:
        self.source.close()
