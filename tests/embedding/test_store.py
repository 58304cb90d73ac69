"""The embedding store: no lookup ever returns another key's row or a torn one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pytest_mlperf.embedding.host_table import HostTable
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_cache import POLICIES
from pytest_mlperf.embedding.row_cache import RowCache
from pytest_mlperf.embedding.store import EmbeddingStore
from tests.support.recommenders import make_tables

KEYS = st.lists(st.integers(0, 102), min_size=1, max_size=60)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("lookup"), KEYS),
        st.tuples(st.just("update"), KEYS.map(lambda keys: sorted(set(keys)))),
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=60)
@given(STEPS, st.sampled_from(POLICIES), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_lookup_returns_the_row_that_was_written_last(
    folder: Path, steps: list[tuple[str, list[int]]], policy: str, share: float
) -> None:
    """Any interleaving of lookups, inserts, evictions and updates."""
    tables, rows = make_tables(folder)
    written = rows.copy()
    cache = StoreOptions(gpucacheper=share, policy=policy)
    store = EmbeddingStore(tables, HostTable(rows.copy()), cache)
    for number, (step, listed) in enumerate(steps):
        keys = np.array(listed)
        if step == "update":
            # The number tells the key and the version.
            written[keys] = keys[:, None] + 1000 * (number + 1)
            store.update(keys, written[keys])
        else:
            assert store.lookup(keys).tolist() == written[keys].tolist()
    counters = store.cache.counters
    store.close()

    assert counters.inserts - counters.evictions <= store.cache.slots
    assert counters.evictions <= counters.inserts <= counters.misses


@settings(max_examples=60)
@given(st.lists(KEYS.map(lambda keys: sorted(set(keys))), max_size=15))
def test_a_cache_never_mixes_keys(batches: list[list[int]]) -> None:
    """What it calls a hit is the row that was inserted for that key."""
    cache = RowCache(24, 103, 2, np.float32)
    for batch in batches:
        keys = np.array(batch)
        rows, is_hit = cache.lookup(keys)
        assert (rows[is_hit] == keys[is_hit][:, None]).all()
        cache.insert(keys, np.repeat(keys[:, None], 2, 1).astype(np.float32))


def test_rows_that_are_used_more_stay() -> None:
    """One set, least frequently used: the hot row survives a stream of cold ones."""
    cache = RowCache(8, 160, 1, np.float32)
    hot = np.array([7])
    cache.insert(hot, np.full((1, 1), 7, np.float32))
    for cold in range(100, 160):
        cache.lookup(hot)
        keys = np.array([cold])
        cache.insert(keys, keys[:, None].astype(np.float32))

    rows, is_hit = cache.lookup(hot)

    assert (bool(is_hit[0]), rows[0, 0]) == (True, 7.0)
    assert cache.counters.evictions == 53


def test_below_the_threshold_a_lookup_waits_and_above_it_takes_the_default(
    tmp_path: Path,
) -> None:
    """As HPS does; what was missing is there after the background insert."""
    tables, rows = make_tables(tmp_path)
    cache = StoreOptions(gpucacheper=1, hit_rate_threshold=0.5)
    store = EmbeddingStore(tables, HostTable(rows.copy()), cache)
    first = np.arange(10)
    more = np.arange(12)

    cold = store.lookup(first)
    warm = store.lookup(more)
    store.wait_for_inserts()
    later = store.lookup(more)
    defaults, facts = store.cache.counters.defaults, store.facts
    store.close()

    assert cold.tolist() == rows[:10].tolist()
    assert warm[:10].tolist() == rows[:10].tolist()
    assert (warm[10:] == 0).all()
    assert later.tolist() == rows[:12].tolist()
    assert defaults == 2
    assert "2 missing rows took the default vector" in facts["embedding cache"]


def test_a_failure_of_the_background_is_raised_by_the_next_lookup(
    tmp_path: Path,
) -> None:
    """A row that cannot be had is not silently a default for ever."""
    tables, rows = make_tables(tmp_path)
    cache = StoreOptions(gpucacheper=1, hit_rate_threshold=0)
    source = HostTable(rows[:50])
    store = EmbeddingStore(tables, source, cache)
    store.lookup(np.array([60]))
    store.wait_for_inserts()

    with pytest.raises(StoreFailed, match="keys are 60 to 60, but the table has"):
        store.lookup(np.array([1]))
    store.close()


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["host memory", "cache"])
def test_no_row_is_torn_by_an_update(tmp_path: Path, share: float) -> None:
    """While one thread rewrites rows, another sees each of them whole."""
    tables, rows = make_tables(tmp_path, sizes=(64,), dimension=256)
    store = EmbeddingStore(
        tables, HostTable(rows.copy()), StoreOptions(gpucacheper=share)
    )
    keys, stop = np.arange(64), threading.Event()

    def rewrite() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            store.update(keys, np.full_like(rows, version))

    writer = threading.Thread(target=rewrite)
    writer.start()
    torn = 0
    seen = set()
    for _ in range(300):
        found = store.lookup(keys)
        torn += int((found != found[:, :1]).any(axis=1).sum())
        seen |= set(found[:, 0].tolist())
    stop.set()
    writer.join()
    store.close()

    assert torn == 0
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([[40, 0, 0]], "key 40 of pair 0 is outside table 0, which has the rows 0 to"),
        ([[0, 0, -1]], "key -1 of pair 0 is outside table 2"),
        ([[0, 0]], r"has the shape \[1, 2\], but should be \[pairs, 3\]"),
    ],
)
def test_keys_of_another_model_are_refused(
    tmp_path: Path, keys: list[list[int]], message: str
) -> None:
    """A key beyond its table would be the next table's row."""
    tables, rows = make_tables(tmp_path)
    store = EmbeddingStore(tables, HostTable(rows), StoreOptions())

    with pytest.raises(ValueError, match=message):
        store.lookup_batch(np.array(keys, np.int32))
    store.close()
