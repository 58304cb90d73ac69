"""How a row lies in a tier: floats, or eight bits a number with a scale of its own.

An int8 row is FBGEMM's fused row-wise layout (``FloatToFused8BitRowwiseQuantized``):
a byte for each number, then scale and least number as float32. A number is its byte
times the scale, plus the least: at most half a scale off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array

DTYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "int8": np.uint8}
"""``row_precision`` -> what a row is made of."""
SCALE_BYTES = 8
LEVELS = 255
CHUNK = 1 << 16
"""Rows that are converted at a time."""


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Rows of ``dimension`` numbers in a precision."""

    precision: str
    dimension: int

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(DTYPES[self.precision])
        return dtype

    @property
    def width(self) -> int:
        """Elements of an encoded row."""
        return self.dimension + SCALE_BYTES * (self.precision == "int8")

    def encode(self, rows: Array) -> Array:
        """Return rows [rows, dimension] as a tier keeps them: [rows, width]."""
        if self.precision != "int8":
            return np.asarray(rows, self.dtype)
        rows = np.asarray(rows, np.float32)
        least = rows.min(axis=1, keepdims=True)
        scale = (rows.max(axis=1, keepdims=True) - least) / LEVELS
        encoded = np.empty((len(rows), self.width), np.uint8)
        steps = np.where(scale > 0, scale, 1)  # a row of one number has no scale
        encoded[:, : self.dimension] = np.rint((rows - least) / steps)
        pair = np.concatenate([scale, least], axis=1)
        encoded[:, self.dimension :] = pair.view(np.uint8)
        return encoded

    def decode(self, encoded: Array) -> Array:
        """Return encoded rows [rows, width] as float32 [rows, dimension]."""
        if self.precision != "int8":
            return encoded.astype(np.float32, copy=False)
        tail = np.ascontiguousarray(encoded[:, self.dimension :])
        pair = tail.view(np.float32)
        rows = encoded[:, : self.dimension].astype(np.float32)
        rows *= pair[:, :1]
        rows += pair[:, 1:]
        return rows


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a model's file, encoded as they are read."""

    file: Array
    format: RowFormat
    count: int
    """Rows; where the file has fewer, they repeat."""

    @classmethod
    def open(cls, tables: EmbeddingTables, precision: str = "") -> TableRows:
        """Map a model's file; without a precision its rows stay as they are."""
        # Copy on write: an update never changes the file that a workload brings.
        file = np.load(tables.path, mmap_mode="c")
        own = "fp16" if file.dtype == np.float16 else "fp32"
        stored = RowFormat(precision or own, file.shape[1])
        return cls(file, stored, tables.rows)

    def __len__(self) -> int:
        return self.count

    @property
    def is_as_in_file(self) -> bool:
        is_float = self.format.precision != "int8"
        is_same = self.file.dtype == self.format.dtype
        return is_float and is_same and len(self.file) == self.count

    @property
    def shape(self) -> tuple[int, int]:
        """Of all rows, encoded."""
        return self.count, self.format.width

    def encode(self, picked: slice) -> Array:
        """Return some of the rows, encoded."""
        if len(self.file) == self.count:
            return self.format.encode(self.file[picked])
        rows = np.arange(*picked.indices(self.count))
        return self.format.encode(self.file.take(rows, axis=0, mode="wrap"))

    def load(self, first: int = 0, step: int = 1) -> Array:
        """Return every ``step``-th row from ``first`` on, encoded, in new memory."""
        count = len(range(first, len(self), step))
        loaded = np.empty((count, self.format.width), self.format.dtype)
        for begin, part in self.read_chunks(first, step):
            loaded[begin : begin + len(part)] = part
        return loaded

    def read_chunks(
        self, first: int = 0, step: int = 1, size: int = CHUNK
    ) -> Iterator[tuple[int, Array]]:
        """Yield (place of the first, encoded rows) of every ``step``-th row."""
        count = len(range(first, len(self), step))
        for begin in range(0, count, size):
            end = min(begin + size, count)
            picked = slice(first + begin * step, first + (end - 1) * step + 1, step)
            yield begin, self.encode(picked)
