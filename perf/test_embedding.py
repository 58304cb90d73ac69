"""Tiers of the embedding store beside the bare call that each is made of.

The sides take turns, and who is first changes: every lookup has keys of its own, so
that none finds rows in the processor's cache where the other side left them. ``share``
is the tier's rate over the bare one's: the goal is 0.8 for each.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from perf.conftest import Replay
from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.embedding.database import DatabaseTable
from pytest_mlperf.embedding.database import encode_keys
from pytest_mlperf.embedding.host_table import HostTable
from pytest_mlperf.embedding.redis_server import RedisStore
from pytest_mlperf.embedding.rocksdb import RocksStore
from pytest_mlperf.embedding.row_cache import RowCache
from pytest_mlperf.embedding.row_format import TableRows
from tests.support.redis_server import RedisServer

ROWS, DIMENSION, KEYS = 200_000, 128, 4096
ROUNDS = {"host memory": 300, "cache": 300, "RocksDB": 20, "Redis": 20}
Lookup = Callable[[Any], Any]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingTables:
    """A table of 100 MB."""
    path = tmp_path_factory.mktemp("tables") / "rows.npy"
    random = np.random.default_rng(1)
    np.save(path, random.random((ROWS, DIMENSION), np.float32))
    return EmbeddingTables(path, (ROWS,), (1,), DIMENSION)


@contextmanager
def open_pair(
    tier: str, tables: EmbeddingTables, folder: Path
) -> Iterator[tuple[Lookup, Lookup]]:
    """Yield a tier's lookup and the bare one."""
    rows = np.load(tables.path)
    with ExitStack() as stack:
        if tier == "host memory":
            host = HostTable(rows.copy())
            yield host.fetch, lambda keys: rows.take(keys, axis=0)
        elif tier == "cache":
            cache = RowCache(ROWS, ROWS, DIMENSION, rows.dtype)
            cache.insert(np.arange(ROWS), rows)
            yield cache.lookup, lambda keys: rows.take(keys, axis=0)
        elif tier == "RocksDB":
            rocks = RocksStore(folder / "rows")
            table = DatabaseTable(rocks, TableRows.open(tables))
            stack.callback(table.close)
            get = rocks.get_many
            yield table.fetch, lambda keys: get(encode_keys(keys))
        else:
            if shutil.which("redis-server") is None:
                pytest.skip("needs redis-server")
            server = RedisServer(folder)
            stack.callback(server.kill)
            redis = RedisStore(server.url)
            table = DatabaseTable(redis, TableRows.open(tables))
            stack.callback(table.close)
            client = redis._client

            def pipeline(keys: Any) -> Any:
                calls = client.pipeline(transaction=False)
                for key in encode_keys(keys):
                    calls.get(b"mlperf:" + key)
                return calls.execute()

            yield table.fetch, pipeline


@pytest.mark.parametrize("tier", ROUNDS)
def test_tier(
    tier: str, tables: EmbeddingTables, tmp_path: Path, replay: Replay
) -> None:
    """Random keys, each batch another."""
    random = np.random.default_rng(2)
    times: tuple[list[float], list[float]] = ([], [])
    with open_pair(tier, tables, tmp_path) as calls:
        for turn in range(ROUNDS[tier]):
            for side in (turn % 2, 1 - turn % 2):
                keys = random.integers(0, ROWS, KEYS)
                began = time.perf_counter()
                rows = calls[side](keys)
                times[side].append(time.perf_counter() - began)
                del rows
    share = median(times[1]) / median(times[0])
    replay.report_seconds(f"{KEYS} keys, {tier}", times[0], share=share)
    print(f"{tier}: {KEYS / median(times[0]):,.0f} keys/s, {share:.2f} of bare")  # noqa: T201
