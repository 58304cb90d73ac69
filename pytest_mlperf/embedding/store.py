"""The embedding store: a cache in front of a tier that holds every row.

The words are those of Merlin's Hierarchical Parameter Server: ``gpucacheper`` is the
share of all rows that the cache holds. While a batch's hit rate is below
``hit_rate_threshold``, its lookup waits for the missing rows and inserts them; from the
threshold on, missing rows take the default vector at once and are inserted in the
background. A threshold of 1 never does that: every answer is exact.
"""

from __future__ import annotations

import contextlib
import queue
import threading

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.bare import find_rows
from pytest_mlperf.embedding.bare import sum_vectors
from pytest_mlperf.embedding.cached_source import CachedSource
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_cache import RowCache
from pytest_mlperf.embedding.row_format import RowFormat

MOST_WAITING = 64
"""Batches whose missing rows wait to be inserted; of more, the rows are let go."""


class EmbeddingStore:
    """Looks up the vectors of keys. Every method may be called from any thread."""

    def __init__(
        self,
        tables: EmbeddingTables,
        source: RowSource,
        options: StoreOptions,
        row_format: RowFormat | None = None,
    ) -> None:
        """Look up in ``source``, whose rows are float unless ``row_format`` says."""
        self.tables, self.source, self.options = tables, source, options
        own = "fp16" if source.dtype == np.float16 else "fp32"
        self.format = row_format or RowFormat(own, source.width)
        self._default = self.format.encode(np.zeros((1, tables.dimension), np.float32))
        slots = int(tables.rows * options.gpucacheper)
        self.cache = RowCache(
            slots, tables.rows, source.width, source.dtype, options.policy
        )
        self._tiers = CachedSource(self.cache, source)
        self._failure: Exception | None = None
        self._missing: queue.Queue[Keys | None] = queue.Queue(MOST_WAITING)
        self._inserter: threading.Thread | None = None
        if options.hit_rate_threshold < 1:
            self._inserter = threading.Thread(
                target=self._insert_missing, name="embedding-inserter", daemon=True
            )
            self._inserter.start()

    def lookup_batch(self, keys: Array) -> Array:
        """Return the vectors of a batch, summed over each table's keys.

        Takes int32 [pairs, keys], returns float32 [pairs, tables, dimension]. Raises
        ``StoreFailed`` when a tier fails.
        """
        rows = self._find(find_rows(self.tables, keys).reshape(-1))
        vectors = self.format.decode(rows)
        vectors = vectors.reshape(*keys.shape, self.tables.dimension)
        return sum_vectors(self.tables, vectors)

    def lookup(self, keys: Keys) -> Array:
        """Return the row of each key: [keys, dimension], in the tables' type.

        Rows of int8 come as float32.
        """
        rows = self._find(keys)
        return self.format.decode(rows) if rows.dtype == np.uint8 else rows

    def _find(self, keys: Keys) -> Array:
        """Return the encoded row of each key: [keys, width]."""
        if self._failure is not None:
            raise StoreFailed(str(self._failure)) from self._failure
        rows, is_hit = self.cache.lookup(keys)
        missing = np.flatnonzero(~is_hit)
        if not len(missing):
            return rows
        threshold = self.options.hit_rate_threshold
        if threshold < 1 and 1 - len(missing) / len(keys) >= threshold:
            rows[missing] = self._default
            self.cache.counters.defaults += len(missing)
            self._insert_later(keys[missing])
            return rows
        return self._tiers.complete(keys, rows, missing)

    def update(self, keys: Keys, rows: Array) -> None:
        """Write rows [keys, dimension] while others are looked up; keys differ.

        A lookup that begins afterwards returns the new rows.
        """
        self._tiers.update(keys, self.format.encode(rows))

    def _insert_later(self, keys: Keys) -> None:
        # Full: the rows are asked for again, and inserted then.
        with contextlib.suppress(queue.Full):
            self._missing.put_nowait(keys)

    def _insert_missing(self) -> None:
        while (keys := self._missing.get()) is not None:
            try:
                self._tiers.fetch_missing(np.unique(keys))
            except Exception as error:  # noqa: BLE001 - the next lookup raises it
                self._failure = error
            self._missing.task_done()

    def wait_for_inserts(self) -> None:
        """Return once what is missing so far has been inserted."""
        if self._inserter is not None:
            self._missing.join()

    @property
    def facts(self) -> dict[str, str]:
        """What was looked up where, for people."""
        threshold = self.options.hit_rate_threshold
        waits = f"waits below a hit rate of {threshold:g}"
        if threshold == 1:
            waits = "every lookup waits for missing rows"
        facts = self._tiers.describe()
        share = f"{self.cache.slots / self.tables.rows:.1%} of all rows, {waits}"
        facts["embedding cache"] = f"{share}; {facts['embedding cache']}"
        if self.format.precision == "int8":
            facts["embedding rows"] = "int8, with a scale and a least number each"
        return facts

    def close(self) -> None:
        """End the background thread and let go of the tiers."""
        if self._inserter is not None:
            self._missing.put(None)
            self._inserter.join()
            self._inserter = None
        self.source.close()
