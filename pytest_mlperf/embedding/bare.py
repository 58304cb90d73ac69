"""The lookup without a store: what every store's answers and speed compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array


def find_rows(tables: EmbeddingTables, keys: Array) -> NDArray[np.int64]:
    """Return the row of each key in the array of all tables: int64 [pairs, keys].

    Raises ``ValueError`` for a key outside its table.
    """
    hotness = np.array(tables.hotness)
    sizes = np.repeat(np.array(tables.sizes, np.int64), hotness)
    if keys.ndim != 2 or keys.shape[1] != len(sizes):
        raise ValueError(
            f"{tables.keys} has the shape {list(keys.shape)}, but should be [pairs, "
            f"{len(sizes)}]: {', '.join(map(str, tables.hotness))} keys of each table"
        )
    wrong = (keys < 0) | (keys >= sizes)
    if wrong.any():
        pair, column = (int(at[0]) for at in np.nonzero(wrong))
        table = int(np.searchsorted(hotness.cumsum(), column, "right"))
        raise ValueError(
            f"key {keys[pair, column]} of pair {pair} is outside table {table}, which "
            f"has the rows 0 to {tables.sizes[table] - 1}; check that the data were "
            "prepared for this model (its largest index, max-ind-range)"
        )
    return keys + np.repeat(np.array(tables.offsets, np.int64), hotness)


def sum_vectors(tables: EmbeddingTables, vectors: Array) -> Array:
    """Return one vector a table from one a key: [pairs, tables, dimension]."""
    if vectors.shape[1] == len(tables.hotness):
        return vectors
    starts = np.cumsum((0, *tables.hotness[:-1]))
    return np.asarray(np.add.reduceat(vectors, starts, axis=1))


def sum_rows(rows: Array, tables: EmbeddingTables, keys: Array) -> Array:
    """Return the vectors of a batch's keys, straight from the array of all tables."""
    return sum_vectors(tables, rows.take(find_rows(tables, keys), 0, mode="wrap"))
