"""RocksDB: the local persistent tier, by the package rocksdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mlperf.embedding.packages import import_package


class RocksStore:
    """A RocksDB folder. One process may have it open."""

    def __init__(self, folder: Path) -> None:
        self.name = f"RocksDB {folder}"
        self._package = import_package("rocksdict", "RocksDB")
        options = self._package.Options(raw_mode=True)
        options.create_if_missing(True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._database: Any = self._package.Rdict(str(folder), options)
        # Every write waits for the disk: what update() returned from is not lost.
        self._durable = self._package.WriteOptions()
        self._durable.sync = True

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return (Exception,)  # the binding has no type of its own

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        found: list[bytes | None] = self._database.get(keys)
        return found

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        batch = self._package.WriteBatch(raw_mode=True)
        for key, value in zip(keys, values, strict=True):
            batch.put(key, value)
        self._database.write(batch, self._durable)

    def close(self) -> None:
        self._database.close()
