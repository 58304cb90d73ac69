"""Rows of eight bits, and rows over NUMA nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.recommender.embedded import open_embedded
from pytest_mlperf.embedding.numa_table import NumaTable
from pytest_mlperf.embedding.options import StoreOptions
from pytest_mlperf.embedding.protocol import StoreFailed
from pytest_mlperf.embedding.row_format import RowFormat
from pytest_mlperf.embedding.row_format import TableRows
from pytest_mlperf.embedding.shared_store import close_store
from pytest_mlperf.embedding.shared_store import find_own_nodes
from pytest_mlperf.embedding.shared_store import open_store
from pytest_mlperf.embedding.store import EmbeddingStore
from pytest_mlperf.engines.onnxruntime import ONNXRUNTIME
from tests.support.recommenders import make_tables

NUMBERS = st.floats(-100, 100, width=32)


@given(arrays.arrays(np.float32, (5, 6), elements=NUMBERS))
def test_a_number_of_eight_bits_is_at_most_half_a_step_off(rows: Array) -> None:
    """A step is the 255th part of what the row spans; a constant row is exact."""
    stored = RowFormat("int8", 6)

    decoded = stored.decode(stored.encode(rows))

    step = np.ptp(rows, axis=1, keepdims=True) / 255
    assert (np.abs(decoded - rows) <= step / 2 + 1e-4).all()


@pytest.fixture
def tables(tmp_path: Path) -> tuple[EmbeddingTables, Array]:
    """Rows of random numbers."""
    tables, rows = make_tables(tmp_path, dimension=16)
    rows[:] = np.random.default_rng(1).random(rows.shape, np.float32)
    np.save(tables.path, rows)
    return tables, rows


@pytest.mark.parametrize("place", ["", "rocksdb:{folder}/rows"])
def test_int8_rows_take_a_quarter_and_a_bit_in_every_tier(
    tables: tuple[EmbeddingTables, Array], place: str, tmp_path: Path
) -> None:
    """Looked up and updated as numbers, kept as 16 + 8 bytes."""
    model, rows = tables
    options = {"row_precision": "int8", "gpucacheper": "0.1"}
    if place:
        pytest.importorskip("rocksdict")
        options |= {"database": place.format(folder=tmp_path), "host_share": "0.2"}
    store = open_store(model, options)
    keys = np.arange(103)
    found = [store.lookup(keys) for _ in range(2)]
    store.update(keys[:3], rows[:3] + 1)
    later = store.lookup(keys[:5])
    expected = rows[:5] + np.array([[1], [1], [1], [0], [0]])
    row_bytes = store.source.counters.bytes / store.source.counters.hits
    facts = store.facts
    close_store(store)

    assert np.abs(found[0] - rows).max() < 1 / 400
    assert found[0].tolist() == found[1].tolist()
    assert later == pytest.approx(expected, abs=1 / 400)
    assert (store.source.width, row_bytes) == (24, 24)
    assert facts["embedding rows"].startswith("int8")


def test_converted_rows_serve_a_models_next_store_unless_they_were_updated(
    tables: tuple[EmbeddingTables, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe opens a model again and again; two stores at a time share no rows."""
    model, rows = tables
    options, keys = {"row_precision": "fp16"}, np.array([5])
    loads: list[int] = []
    load = TableRows.load

    def count(table: TableRows) -> Array:
        loads.append(len(table))
        return load(table)

    monkeypatch.setattr(TableRows, "load", count)
    first, beside = (
        open_store(model, {**options, "policy": policy}) for policy in ("lfu", "lru")
    )
    first.update(keys, np.full((1, 16), 7, np.float32))
    for store in (first, beside):
        close_store(store)

    again = open_store(model, options)
    found = again.lookup(keys)
    close_store(again)

    assert found == pytest.approx(rows[5:6], abs=1e-3)
    assert len(loads) == 2


@pytest.mark.parametrize("name", ["dlrm", "dlrm-v2"])
def test_int8_rows_keep_the_embedded_auc(name: str, tmp_path: Path) -> None:
    """Within 0.1 % of fp32: the stricter target's limit."""
    workload = open_embedded(name)
    options = {"row_precision": "int8"}
    build = ONNXRUNTIME.build(BuildRequest(workload, "fp32", tmp_path, options))
    stream = ONNXRUNTIME.open(build, 2)
    indices = range(workload.dataset.total)
    outputs = stream.infer(workload.dataset.gather(indices), len(indices))
    rows, sizes, _ = workload.respond(outputs, indices)
    assert sizes is not None
    answers = {i: rows[i].tobytes()[: sizes[i]] for i in indices}
    stream.close()

    auc = workload.score(answers)["AUC"]

    assert auc >= 0.999 * workload.reference["AUC"]


def grow_nodes(root: Path, *cpus: str) -> Path:
    """Write a sysfs of NUMA nodes."""
    folder = root / "sys/devices/system/node"
    folder.mkdir(parents=True)
    (folder / "online").write_text(f"0-{len(cpus) - 1}\n")
    for number, line in enumerate(cpus):
        (folder / f"node{number}").mkdir()
        (folder / f"node{number}/cpulist").write_text(f"{line}\n")
    return root


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_over_simulated_nodes_are_those_of_the_file(
    tables: tuple[EmbeddingTables, Array], precision: str, tmp_path: Path
) -> None:
    """Three nodes, whose threads are bound; any keys, and updates."""
    model, rows = tables
    own = sorted(os.sched_getaffinity(0))
    nodes = {n: (own[n % len(own)],) for n in (0, 1, 4)}
    table = NumaTable(TableRows.open(model, precision), nodes, tmp_path)
    stored = RowFormat(precision, 16)
    store = EmbeddingStore(model, table, StoreOptions(gpucacheper=0), stored)
    keys = np.random.default_rng(2).integers(0, 103, 500)
    expected = stored.decode(stored.encode(rows))
    found = store.lookup(keys)
    store.update(np.array([5, 9, 7]), rows[:3])
    later = store.lookup(np.array([7, 9, 5, 6]))
    sizes = [len(shard.rows) for shard in table._shards]
    bound = [one.cpus for one in table.bindings]
    with pytest.raises(StoreFailed, match="keys are 0 to 103, but the table has"):
        table.fetch(np.array([0, 103]))
    store.close()

    assert found.tolist() == expected[keys].tolist()
    assert later.tolist() == expected[[2, 1, 0, 6]].tolist()
    assert sizes == [35, 34, 34]
    assert bound == [*nodes.values()]
    assert table.name == "host memory of the nodes 0-1,4"


@pytest.mark.parametrize("lines", [("0-255",), ("0-255", "")])
def test_one_node_is_nothing_to_spread_over(
    lines: Sequence[str], tmp_path: Path
) -> None:
    """Nodes of memory alone do not count."""
    with pytest.raises(BuildFailed, match="are on one NUMA node; leave it out"):
        find_own_nodes(grow_nodes(tmp_path, *lines))


def test_nodes_have_the_cpus_of_this_process_alone(tmp_path: Path) -> None:
    """A runner that was bound stays within what it was given."""
    own = sorted(os.sched_getaffinity(0))
    first, rest = own[0], own[1:]
    if not rest:
        pytest.skip("needs two CPUs")
    lines = (f"{first},4000", ",".join(map(str, rest)))

    nodes = find_own_nodes(grow_nodes(tmp_path, *lines))

    assert nodes == {0: (first,), 1: tuple(rest)}
