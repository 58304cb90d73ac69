"""Host memory: all rows as one mapped file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import StoreFailed


class HostTable:
    """A table file in host memory; updates stay in this process.

    A reader copies rows without a lock and looks afterwards whether a writer was there
    in the meantime; only then does it copy once more, with the lock.
    """

    name = "host memory"

    def __init__(self, path: Path) -> None:
        self.counters = TierCounters()
        # Copy on write: an update never changes the file that a workload brings.
        self.rows: Array = np.load(path, mmap_mode="c")
        self.dtype = self.rows.dtype
        self._version = 0
        self._writing = threading.Lock()

    def fetch(self, keys: Keys) -> Array:
        began = time.perf_counter()
        before = self._version
        try:
            rows: Array = self.rows.take(keys, axis=0)
        except IndexError as error:
            raise StoreFailed(
                f"a key has no row: the keys are {keys.min()} to {keys.max()}, but "
                f"the table has the rows 0 to {len(self.rows) - 1}"
            ) from error
        if before % 2 or self._version != before:
            with self._writing:
                rows = self.rows.take(keys, axis=0)
        counters = self.counters
        counters.hits += len(keys)
        counters.bytes += rows.nbytes
        counters.calls += 1
        counters.seconds += time.perf_counter() - began
        return rows

    def update(self, keys: Keys, rows: Array) -> None:
        with self._writing:
            self._version += 1
            self.rows[keys] = rows
            self._version += 1

    def close(self) -> None:
        """Nothing to do: the map ends with the object."""
