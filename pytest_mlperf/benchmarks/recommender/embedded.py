"""The embedded recommenders: flights of 2013, and whether they arrive late."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.recommender import graphs
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.benchmarks.recommender.pairs import draw_groups
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload

FOLDER = files.EMBEDDED / "dlrm"
TABLES = 11
DAY, HOUR = 6, 7
"""Tables whose neighboring rows are keys of a pair too, in dlrm-v2."""
NAMES = {"dlrm": "DLRM", "dlrm-v2": "DCNv2"}


def hotness_of(name: str) -> tuple[int, ...]:
    """Return the keys a pair has for each table: dlrm-v2 has tables of three."""
    many = (DAY, HOUR) if name == "dlrm-v2" else ()
    return tuple(3 if table in many else 1 for table in range(TABLES))


def expand_keys(name: str, keys: Array, sizes: Sequence[int]) -> Array:
    """Return all keys of each pair, table after table: int32 [pairs, keys].

    A table of three keys gets the row before and the row after too.
    """
    columns = []
    for table, (hotness, size) in enumerate(zip(hotness_of(name), sizes, strict=True)):
        steps = (0,) if hotness == 1 else (-1, 0, 1)
        one = keys[:, table].astype(np.int32)
        columns += [np.clip(one + step, 0, size - 1) for step in steps]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def open_embedded(name: str, folder: Path = FOLDER) -> RecommenderWorkload:
    """Open the stand-in of ``dlrm`` or ``dlrm-v2``: a fifth of a year's flights."""
    manifest = json.loads((folder / "manifest.json").read_text())

    def check(file: str) -> Path:
        sha256 = manifest["sha256"][file]
        return files.check_embedded(folder / file, sha256, "make_dlrm.py")

    used = ["pairs.npz", f"{name}.onnx", f"{name}-tables.npy"]
    pairs, model, tables = map(check, used)
    with np.load(pairs) as data:
        dense, keys, labels = data["dense"], data["keys"], data["labels"]
        sizes = data["sizes"].tolist()
    starts = draw_groups(len(labels))
    digest = hashlib.sha256(
        "".join(manifest["sha256"][file] for file in used).encode() + starts.tobytes()
    )
    embedding = EmbeddingTables(
        path=tables,
        sizes=tuple(sizes),
        hotness=hotness_of(name),
        dimension=np.load(tables, mmap_mode="r").shape[1],
        vectors=graphs.VECTORS,
    )
    return RecommenderWorkload(
        kind="embedded",
        title=f"embedded: {NAMES[name]} of {embedding.rows:,} rows on {len(labels):,} "
        f"flights in {len(starts) - 1} groups",
        digest=digest.hexdigest(),
        model=ModelFile(
            path=model,
            inputs=(graphs.DENSE, graphs.VECTORS),
            outputs=(graphs.SCORES,),
            embedding=embedding,
        ),
        dataset=PairDataset(
            dense=dense.astype(np.float32),
            keys=[expand_keys(name, keys, sizes)],
            starts=starts,
            performance_count=len(starts) - 1,
        ),
        reference=manifest["reference"][name],
        labels=labels,
    )
