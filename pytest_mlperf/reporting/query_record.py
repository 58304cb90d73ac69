"""A run's record a query, ``queries.npz``: what LoadGen's own logs do not tell.

A column is an array of the file, so that ``numpy.load`` gives each by its name. Plots
and exports read it. No rule does: LoadGen's logs alone decide.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "queries.npz"
TIMES = ("scheduled_ns", "issued_ns", "started_ns", "first_token_ns", "completed_ns")
"""Since the first query was due; -1 where nobody knows."""
COUNTS = ("query", "samples", "tokens", "batch", "stream", "device")
"""``query``: its number, from 0. ``samples`` and ``tokens`` are of this row; tokens are
-1 where none were told. ``batch``: samples that were answered together; 0 where a
service made its own batches. ``stream``, ``device``: who answered."""
EVERY = "every"
"""One row of so many was kept."""


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """A row a query of a run, in the order in which they were due.

    Offline has one query: there, and where a query was answered in several batches, a
    row is a batch of it.
    """

    columns: Mapping[str, Any]
    """Name of ``TIMES`` or ``COUNTS`` -> 64-bit integers, as many in each."""
    every: int = 1
    """One row of so many was kept: the file is bounded."""

    def __len__(self) -> int:
        return len(self.columns["query"])

    def write(self, folder: Path) -> None:
        """Write ``queries.npz`` into a run's folder. Raises ``OSError``."""
        import numpy as np

        arrays: dict[str, Any] = {
            name: values if name in TIMES else values.astype(np.int32)
            for name, values in self.columns.items()
        }
        arrays[EVERY] = np.array(self.every)
        np.savez_compressed(folder / FILE, **arrays)

    @classmethod
    def read(cls, folder: Path) -> QueryRecord | None:
        """Return a run's record; None where it has none that can be read."""
        import numpy as np

        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                columns = {name: file[name].astype(np.int64) for name in TIMES + COUNTS}
                every = int(file[EVERY])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        sizes = {values.shape for values in columns.values()}
        is_table = len(sizes) == 1 and len(sizes.pop()) == 1
        return cls(columns, every) if is_table and every > 0 else None
