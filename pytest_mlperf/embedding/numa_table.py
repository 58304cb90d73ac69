"""Host memory over NUMA nodes: a row lies on one, and CPUs of that node read it."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.host_table import HostTable
from pytest_mlperf.embedding.protocol import Keys
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_format import TableRows
from pytest_mlperf.machine.affinity import Binding
from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.machine.numa import format_ids

ROOT = Path("/")


class NumaTable:
    """Row n is in shard n modulo the nodes, so that hot neighbors are spread.

    Each shard has a thread that is bound to its node. It allocates and fills the
    shard, and it copies the rows of every lookup.
    """

    def __init__(
        self, tables: TableRows, nodes: Mapping[int, Sequence[int]], root: Path = ROOT
    ) -> None:
        """Spread rows over ``nodes``: number -> CPUs."""
        self.counters = TierCounters()
        self.dtype, self.width = tables.format.dtype, tables.format.width
        self.name = f"host memory of the nodes {format_ids(nodes)}"
        self._rows, self._count = len(tables), len(nodes)
        self._threads = [ThreadPoolExecutor(1, f"embedding-node-{n}") for n in nodes]
        self.bindings: list[Binding] = self._each_calls(
            [partial(bind, cpus, root) for cpus in nodes.values()]
        )
        shards: list[Array] = self._each_calls(
            [partial(tables.load, n, self._count) for n in range(self._count)]
        )
        self._shards = [HostTable(shard) for shard in shards]

    def _each_calls(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Call the n-th in the n-th shard's thread, all at a time."""
        pending: list[Future[Any]] = [
            thread.submit(call)
            for thread, call in zip(self._threads, calls, strict=True)
        ]
        return [one.result() for one in pending]

    def _split(self, keys: Keys) -> list[tuple[Keys, Keys]]:
        """Return for each shard the places of its keys, and its rows there."""
        if len(keys) and not 0 <= int(keys.min()) <= int(keys.max()) < self._rows:
            raise StoreFailed(
                f"a key has no row: the keys are {keys.min()} to {keys.max()}, but "
                f"the table has the rows 0 to {self._rows - 1}"
            )
        local, shards = np.divmod(keys, self._count)
        places = [np.flatnonzero(shards == n) for n in range(self._count)]
        return [(one, local[one]) for one in places]

    def fetch(self, keys: Keys) -> Array:
        began = time.perf_counter()
        rows = np.empty((len(keys), self.width), self.dtype)

        def copy(shard: HostTable, places: Keys, local: Keys) -> None:
            rows[places] = shard.fetch(local)

        self._each_calls(
            [
                partial(copy, shard, *part)
                for shard, part in zip(self._shards, self._split(keys), strict=True)
            ]
        )
        self.counters.note_fetch(rows, began)
        return rows

    def update(self, keys: Keys, rows: Array) -> None:
        for shard, (places, local) in zip(self._shards, self._split(keys), strict=True):
            shard.update(local, rows[places])

    def close(self) -> None:
        """End the threads; the rows go with them."""
        for thread in self._threads:
            thread.shutdown()
