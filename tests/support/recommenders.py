"""Official files of a recommender in small, and embedding tables of tests."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.recommender import official
from pytest_mlperf.benchmarks.recommender.official import OfficialRecommender
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.protocol import RowSource
from pytest_mlperf.embedding.row_format import TableRows
from pytest_mlperf.embedding.shared_store import open_source


def write_official(
    scratch: Path, benchmark: OfficialRecommender, pairs: int
) -> tuple[Array, Array, Array]:
    """Write a day 23 of few pairs and a model's files; return what is in them."""
    paths = [scratch / source.paths[0] for source in benchmark.sources]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    model, tables, dense_file, keys_file, labels_file = paths
    model.write_bytes(b"no graph: nothing is built from it here")
    np.save(tables, np.zeros((sum(official.SIZES), official.DIMENSION), np.float16))
    random = np.random.default_rng(1)
    dense = random.random((pairs, official.NUMBERS), np.float32)
    keys = random.integers(0, 9, (pairs, sum(benchmark.hotness)), np.int32)
    labels = random.integers(0, 2, (pairs, 1), np.int32)
    np.save(dense_file, dense)
    np.save(labels_file, labels)
    if benchmark.is_multi_hot:
        parts = np.split(keys, np.cumsum(benchmark.hotness)[:-1], axis=1)
        write_archive(keys_file, parts)
    else:
        np.save(keys_file, keys)
    return dense, keys, labels


def write_archive(path: Path, arrays: Sequence[Array]) -> None:
    """Write arrays as members 0, 1 … of an archive, stored as they are."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, array in enumerate(arrays):
            with archive.open(f"{number}.npy", "w") as member:
                np.lib.format.write_array(member, array)


def make_tables(
    folder: Path, sizes: tuple[int, ...] = (40, 3, 60), dimension: int = 4
) -> tuple[EmbeddingTables, Array]:
    """Return tables whose row n has the number n everywhere, and the rows."""
    rows = np.repeat(
        np.arange(sum(sizes), dtype=np.float32)[:, None], dimension, axis=1
    )
    path = folder / "tables.npy"
    np.save(path, rows)
    return EmbeddingTables(path, sizes, (1,) * len(sizes), dimension), rows


def open_database(tables: EmbeddingTables, place: str) -> RowSource:
    """Open the tables' rows in a database, without host memory in front of it."""
    return open_source(tables, TableRows.open(tables), StoreOptions(database=place))
