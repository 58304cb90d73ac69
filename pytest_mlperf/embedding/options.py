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
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.redis_cluster import open_cluster
from pytest_mlperf.embedding.redis_server import RedisStore
from pytest_mlperf.embedding.rocksdb import RocksStore
from pytest_mlperf.embedding.row_cache import POLICIES
from pytest_mlperf.embedding.row_cache import RowCache
from pytest_mlperf.embedding.row_format import DTYPES
from pytest_mlperf.embedding.row_format import TableRows
from pytest_mlperf.embedding.store import CacheSettings
from pytest_mlperf.embedding.store import EmbeddingStore
from pytest_mlperf.machine.host import read_numa_nodes
from pytest_mlperf.machine.numa import format_ids

EXAMPLE = "gpucacheper=0.1,hit_rate_threshold=0.9,policy=lfu"

OPTIONS = {
    "gpucacheper": "share of the rows in the cache",
    "hit_rate_threshold": "share of hits from which misses get the default vector",
    "policy": "lru or lfu",
    "database": "rocksdb:FOLDER, redis://HOST:PORT or redis-cluster://HOST:PORT",
    "host_share": "share of a database's rows that host memory holds",
    "row_precision": "fp32, fp16 or int8; default: as the model's file has them",
    "numa": "1: rows in host memory are spread over the NUMA nodes",
}
"""What ``--mlperf-engine-options`` may say of a recommender's tables."""
ANSWER_OPTIONS = ("hit_rate_threshold", "row_precision")
"""Those that change answers: builds with others are others."""


def check_options(given: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for a value that is none."""
    try:
        read_settings(given)
        check_words(given)
    except BuildFailed as error:
        raise ValueError(str(error)) from None


def check_words(given: Mapping[str, str]) -> None:
    """Raise ``BuildFailed`` for a word that an option does not have."""
    words = {"policy": POLICIES, "row_precision": tuple(DTYPES), "numa": ("0", "1")}
    for name, legal in words.items():
        if name in given and given[name] not in legal:
            raise BuildFailed(
                f"--mlperf-engine-options: {name} is {given[name]!r}, but should be "
                f"{' or '.join(legal)}"
            )
    if given.get("numa") == "1" and given.get("database"):
        raise BuildFailed(
            "--mlperf-engine-options: numa=1 spreads the rows of host memory, but "
            "database= keeps them elsewhere; leave one of the two out"
        )


def read_settings(options: Mapping[str, str]) -> CacheSettings:
    """Return the cache's settings; ``BuildFailed`` for a value that is none."""
    usual = CacheSettings()
    try:
        return CacheSettings(
            gpucacheper=float(options.get("gpucacheper", usual.gpucacheper)),
            hit_rate_threshold=float(
                options.get("hit_rate_threshold", usual.hit_rate_threshold)
            ),
            policy=options.get("policy", usual.policy),
        )
    except ValueError as error:
        raise BuildFailed(
            f"--mlperf-engine-options: {error}; write for example {EXAMPLE}"
        ) from error


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
            settings = read_settings(options)
            rows = open_rows(tables, options)
            source = open_source(tables, options)
            store = EmbeddingStore(tables, source, settings, rows.format)
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


def open_rows(tables: EmbeddingTables, options: Mapping[str, str]) -> TableRows:
    """Open the model's rows in the precision that the options ask for."""
    return TableRows.open(tables, options.get("row_precision", ""))


def open_source(tables: EmbeddingTables, options: Mapping[str, str]) -> RowSource:
    """Open the tiers below the cache: host memory, or a share of it and a database."""
    check_words(options)
    rows = open_rows(tables, options)
    place, share = options.get("database", ""), options.get("host_share", "0")
    if not place and options.get("numa") == "1":
        return NumaTable(rows, find_own_nodes())
    if not place:
        return open_host_table(tables, rows)
    try:
        slots = int(tables.rows * float(share))
    except ValueError as error:
        raise BuildFailed(
            f"--mlperf-engine-options: host_share is {share!r}, but should be a share "
            "of the rows such as 0.5"
        ) from error
    database = DatabaseTable(_open_database(place), rows)
    if not slots:
        return database
    policy = read_settings(options).policy
    cache = RowCache(slots, tables.rows, database.width, database.dtype, policy)
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
    if kind in ("redis", "rediss", "unix"):
        return RedisStore(place)
    if kind == "rocksdb" and rest:
        try:
            return RocksStore(Path(rest).expanduser())
        except OSError as error:
            raise BuildFailed(f"RocksDB {rest} cannot be opened: {error}") from error
        except Exception as error:
            if type(error) is not Exception:  # the binding has no type of its own
                raise
            raise BuildFailed(
                f"RocksDB {rest} cannot be opened: {error}; another process may have "
                "it open, or the folder holds something else"
            ) from error
    raise BuildFailed(
        f"--mlperf-engine-options: database is {kind}:…, but should be rocksdb:FOLDER, "
        "redis://HOST:PORT or redis-cluster://HOST:PORT"
    )
