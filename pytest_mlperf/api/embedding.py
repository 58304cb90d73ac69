"""Embedding tables: the sparse part of a recommender, beside its ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path


@dataclass(frozen=True, slots=True, weakref_slot=True)
class EmbeddingTables:
    """All tables of a model in one array, one table after another.

    An engine looks up the rows of a batch's keys and gives the graph their vectors.
    """

    path: Path
    """A .npy file: float16 or float32 [rows of all tables, dimension].

    Of a file with fewer rows, row n is row n modulo the file's: made-up tables need no
    disk. In memory they take what the model takes.
    """
    sizes: tuple[int, ...]
    """Rows of each table; a key is below its table's size."""
    hotness: tuple[int, ...]
    """Keys that a pair has for each table; their vectors are summed."""
    dimension: int
    keys: str = "keys"
    """Name in the batch: int32 [pairs, sum of hotness], table after table."""
    vectors: str = "embeddings"
    """Name in the graph: float32 [pairs, tables, dimension]."""

    @property
    def offsets(self) -> tuple[int, ...]:
        """First row of each table in the array."""
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    @property
    def rows(self) -> int:
        return sum(self.sizes)
