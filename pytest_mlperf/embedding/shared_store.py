"""The store that ``--mlperf-engine-options`` ask for, shared by a process's streams."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.embedding.cached_source import CachedSource
from pytest_mlperf.embedding.database import DatabaseTable
from pytest_mlperf.embedding.database import KeyValueStore
from pytest_mlperf.embedding.host_table import open_host_table
from pytest_mlperf.embedding.numa_table import NumaTable
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.options import read_options
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.redis_cluster import open_cluster
from pytest_mlperf.embedding.redis_server import RedisStore
from pytest_mlperf.embedding.rocksdb import RocksStore
from pytest_mlperf.embedding.row_cache import RowCache
from pytest_mlperf.embedding.row_format import TableRows
from pytest_mlperf.embedding.store import EmbeddingStore
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.numa import format_ids


@dataclass(slots=True)
class _Shared:
    store: EmbeddingStore
    users: int


_STORES: dict[tuple[object, ...], _Shared] = {}
_OPENING = threading.Lock()


def open_store(tables: EmbeddingTables, options: Mapping[str, str]) -> EmbeddingStore:
    """Open the store of a model's tables as the engine options have it.

    The streams of a process share one: an update reaches all of them, and a database
    can be open once. Each ``close_store`` undoes one call.
    """
    key = tables, tuple(sorted(options.items()))
    with _OPENING:
        shared = _STORES.get(key)
        if shared is None:
            chosen = read_options(options)
            rows = TableRows.open(tables, chosen.row_precision)
            source = open_source(tables, rows, chosen)
            store = EmbeddingStore(tables, source, chosen, rows.format)
            shared = _STORES[key] = _Shared(store, 0)
        shared.users += 1
        return shared.store


def close_store(store: EmbeddingStore) -> None:
    """Close a store once nobody uses it any more."""
    with _OPENING:
        for key, shared in list(_STORES.items()):
            if shared.store is store:
                shared.users -= 1
                if not shared.users:
                    del _STORES[key]
                    store.close()


def open_source(
    tables: EmbeddingTables, rows: TableRows, chosen: StoreOptions
) -> RowSource:
    """Open the tiers below the cache: host memory, or a share of it and a database."""
    if not chosen.database:
        if chosen.numa:
            return NumaTable(rows, find_own_nodes())
        return open_host_table(tables, rows)
    database = DatabaseTable(_open_database(chosen.database), rows)
    slots = int(tables.rows * chosen.host_share)
    if not slots:
        return database
    width, dtype = database.width, database.dtype
    cache = RowCache(slots, tables.rows, width, dtype, chosen.policy)
    return CachedSource(cache, database, "host memory")


def find_own_nodes(root: Path = Path("/")) -> dict[int, tuple[int, ...]]:
    """Return the NUMA nodes of the CPUs that this process may use: number -> CPUs.

    Raises ``BuildFailed`` where it is one: there is nothing to spread.
    """
    own = os.sched_getaffinity(0)
    nodes = {
        node: tuple(cpu for cpu in cpus if cpu in own)
        for node, cpus in read_numa_nodes(root).items()
    }
    nodes = {node: cpus for node, cpus in nodes.items() if cpus}
    if len(nodes) < 2:
        raise BuildFailed(
            f"--mlperf-engine-options: numa=1, but the CPUs {format_ids(own)} of this "
            "process are on one NUMA node; leave it out, or give the process CPUs of "
            "several nodes"
        )
    return nodes


def _open_database(place: str) -> KeyValueStore:
    kind, _, rest = place.partition(":")
    if kind == "redis-cluster":
        return open_cluster(place)
    if kind != "rocksdb":
        return RedisStore(place)
    try:
        return RocksStore(Path(rest).expanduser())
    except OSError as error:
        raise BuildFailed(f"RocksDB {rest} cannot be opened: {error}") from error
    except Exception as error:
        if type(error) is not Exception:  # the binding has no type of its own
            raise
        raise BuildFailed(
            f"RocksDB {rest} cannot be opened: {error}; another process may have it "
            "open, or the folder holds something else"
        ) from error
