"""What the databases have in common: keys as bytes, a stamp, and filling once."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_format import TableRows

CHUNK = 1 << 14
"""Rows of one write while a database is filled."""
STAMP = b"tables"
"""Key of what the database was filled with; written last."""


class KeyValueStore(Protocol):
    """A database as far as it is used here."""

    name: str
    """``RocksDB /data/rows``: what messages call it."""

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]: ...

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write all or, on failure, maybe some; durable once it returns."""

    def close(self) -> None: ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises when the database is gone or damaged."""


class DatabaseTable:
    """Rows in a key-value database; a value is a row's bytes."""

    def __init__(self, store: KeyValueStore, rows: TableRows) -> None:
        self.name, self.counters = store.name, TierCounters()
        self._store = store
        self.dtype, self.width = rows.format.dtype, rows.format.width
        stamp = make_stamp(rows)
        with self._name_failures():
            (found,) = store.get_many([STAMP])
        if found is None:
            self._fill(rows, stamp)
        elif found != stamp:
            store.close()
            raise BuildFailed(
                f"{self.name} holds other tables ({found.decode(errors='replace')}), "
                f"but should hold {stamp.decode()}; name an empty place in database="
            )

    def _fill(self, rows: TableRows, stamp: bytes) -> None:
        for first, part in rows.read_chunks(size=CHUNK):
            self.update(np.arange(first, first + len(part)), part)
        with self._name_failures():
            self._store.put_many([STAMP], [stamp])

    def fetch(self, keys: Keys) -> Array:
        began = time.perf_counter()
        with self._name_failures():
            values = self._store.get_many(encode_keys(keys))
        try:
            joined = b"".join(values)  # type: ignore[arg-type]
        except TypeError:
            absent = keys[[value is None for value in values]]
            raise StoreFailed(
                f"{self.name} has no row for {len(absent):,} of {len(keys):,} keys "
                f"(first: {absent[0]}), but was filled with all; somebody deleted "
                "rows: empty it, and it is filled again"
            ) from None
        rows = np.frombuffer(joined, self.dtype).reshape(len(keys), -1)
        if rows.shape[1] != self.width:
            raise StoreFailed(
                f"{self.name} has rows of {rows.shape[1]} numbers, but should have "
                f"{self.width}: empty it, and it is filled again"
            )
        self.counters.note_fetch(rows, began)
        return rows

    def update(self, keys: Keys, rows: Array) -> None:
        whole = np.ascontiguousarray(rows, self.dtype).tobytes()
        size = self.width * self.dtype.itemsize
        values = [whole[at : at + size] for at in range(0, len(whole), size)]
        with self._name_failures():
            self._store.put_many(encode_keys(keys), values)

    @contextmanager
    def _name_failures(self) -> Iterator[None]:
        try:
            yield
        except self._store.errors as error:
            raise StoreFailed(
                f"{self.name} failed: {type(error).__name__}: {error}; see that it "
                "runs and can be reached, and start the run again: rows that were "
                "written are not lost"
            ) from error

    def close(self) -> None:
        self._store.close()


def encode_keys(keys: NDArray[np.int64]) -> list[bytes]:
    """Return big-endian keys of eight bytes: neighbors are neighbors in a database."""
    whole = keys.astype(">i8").tobytes()
    return [whole[at : at + 8] for at in range(0, len(whole), 8)]


def make_stamp(rows: TableRows) -> bytes:
    """Return shape, type and a checksum over rows at even distances."""
    step = max(1, len(rows) // 4096)
    checksum = zlib.crc32(rows.encode(slice(None, None, step)).tobytes())
    dtype = str(rows.format.dtype)
    return json.dumps(
        {"rows": list(rows.shape), "dtype": dtype, "crc": checksum}
    ).encode()
