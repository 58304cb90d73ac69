"""Host memory: all rows in one array, which may be a mapped file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_format import RowFormat
from pytest_mlperf.embedding.row_format import TableRows

_CONVERTED: WeakKeyDictionary[EmbeddingTables, dict[RowFormat, Array]] = (
    WeakKeyDictionary()
)
"""Rows that a store of the model's tables left as they were converted, until the model
goes or its next store takes them: a probe opens its streams again and again, and
converting gigabytes takes longer than what it measures."""


class HostTable:
    """Rows in host memory; updates stay in this process.

    A reader copies rows without a lock and looks afterwards whether a writer was there
    in the meantime; only then does it copy once more, with the lock.
    """

    name = "host memory"

    def __init__(
        self, rows: Array, keep: Callable[[Array], object] | None = None
    ) -> None:
        """Read ``rows``; ``keep`` gets them at the end if nobody updated them."""
        self.counters = TierCounters()
        self.rows = rows
        self.dtype, self.width = rows.dtype, rows.shape[1]
        self._version = 0
        self._keep = keep
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
        self.counters.note_fetch(rows, began)
        return rows

    def update(self, keys: Keys, rows: Array) -> None:
        self._keep = None
        with self._writing:
            self._version += 1
            self.rows[keys] = rows
            self._version += 1

    def close(self) -> None:
        """Let go of the rows: a map ends with the object."""
        if self._keep is not None:
            self._keep(self.rows)


def open_host_table(tables: EmbeddingTables, rows: TableRows) -> HostTable:
    """Map the file, or convert its rows into memory.

    What was converted for an earlier store of the model serves the next one too.
    """
    if rows.is_as_in_file:
        return HostTable(rows.file)
    kept = _CONVERTED.setdefault(tables, {})
    found = kept.pop(rows.format, None)
    kept.clear()
    if found is None:
        found = rows.load()
    return HostTable(found, partial(kept.__setitem__, rows.format))
