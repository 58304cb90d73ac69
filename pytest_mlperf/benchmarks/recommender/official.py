"""Criteo's day 23 and the official models, as they lie in the scratch folder.

The data are what the reference makes (mlcommons/training, torchrec_dlrm): the numbers
are already logarithms. Only the first half of the day is the test set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.recommender import graphs
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.benchmarks.recommender.pairs import draw_groups
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload

NUMBERS = 13
SIZES = (
    40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000,
    3_067_956, 405_282, 10, 2_209, 11_938, 155, 4, 976, 14, 40_000_000, 40_000_000,
    40_000_000, 590_152, 12_973, 108, 36,
)  # fmt: skip
"""Rows of each table with at most 40 million: ``num_embeddings_per_feature``."""
ONE_HOT = (1,) * len(SIZES)
MULTI_HOT = (3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10,
             3, 1, 1)  # fmt: skip
"""Keys a pair has for each table: --multi_hot_sizes of the data set's recipe."""
DIMENSION = 128
PERFORMANCE_COUNT = 204_800
"""``dlrm*.*.performance_sample_count_override`` of mlperf.conf."""
DATA = "Criteo's Terabyte click logs"


@dataclass(frozen=True)
class OfficialRecommender:
    """The official files of one benchmark."""

    name: str
    title: str
    hotness: tuple[int, ...]
    checkpoint: str
    """Which weights the model is made of, and where they are offered."""

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """Dense part, tables, numbers, keys, labels."""
        folder = f"models/{self.name}"
        recipe = f"{self.checkpoint}, written as docs/recommenders.md says"
        data = f"data/{'criteo-multihot' if self.is_multi_hot else 'criteo'}"
        keys = (
            "day_23_sparse_multi_hot.npz" if self.is_multi_hot else "day_23_sparse.npy"
        )
        origin = f"{DATA}, prepared by mlcommons/training's torchrec_dlrm"
        terms = "after agreement to Criteo's terms"
        return (
            Source((f"{folder}/dense.onnx",), recipe),
            Source((f"{folder}/tables.npy",), recipe),
            Source((f"{data}/day_23_dense.npy",), origin, terms=terms),
            Source((f"{data}/{keys}",), origin, terms=terms),
            Source((f"{data}/day_23_labels.npy",), origin, terms=terms),
        )

    @property
    def is_multi_hot(self) -> bool:
        return max(self.hotness) > 1

    def open(self, scratch: Path | None) -> RecommenderWorkload:
        """Open the model and the test half of day 23.

        Raises ``RequirementMissing`` for absent files, ``ValueError`` for files of
        another layout. The digest covers the dense part; of files of gigabytes it
        covers the sizes.
        """
        found = require_files(self.name, self.sources, scratch, files.USE_EMBEDDED)
        model, tables, *data = found
        dense, keys, labels = map(read_columns, data)
        half = (len(dense[0]) + 1) // 2
        starts = draw_groups(half)
        columns = [column[:half] for column in keys]
        self._check(data[1], columns, dense[0], np.load(tables, mmap_mode="r"))
        sizes = [path.stat().st_size for path in (tables, *data)]
        return RecommenderWorkload(
            kind="official",
            title=f"{self.title}, Criteo day 23 ({half:,} pairs in "
            f"{len(starts) - 1:,} groups)",
            digest=files_digest([model], repr(sizes)),
            model=ModelFile(
                path=model,
                inputs=(graphs.DENSE, graphs.VECTORS),
                outputs=(graphs.SCORES,),
                embedding=EmbeddingTables(tables, SIZES, self.hotness, DIMENSION),
            ),
            dataset=PairDataset(
                dense=dense[0][:half],
                keys=columns,
                starts=starts,
                performance_count=min(PERFORMANCE_COUNT, len(starts) - 1),
            ),
            reference={},
            labels=labels[0][:half].reshape(-1),
        )

    def _check(
        self, path: Path, keys: Sequence[Array], dense: Array, rows: Array
    ) -> None:
        widths = tuple(w for k in keys for w in ([1] * k.shape[1] if len(keys) == 1
                                                 else [k.shape[1]]))  # fmt: skip
        if widths != self.hotness:
            raise ValueError(
                f"{path} has {widths} keys a pair for its tables, but should have "
                f"{self.hotness}; use the file that {DATA}' recipe makes for "
                f"{self.name}"
            )
        required = (sum(SIZES), DIMENSION)
        if rows.shape != required or dense.shape[1:] != (NUMBERS,):
            raise ValueError(
                f"{self.name}: the tables have the shape {rows.shape} and the numbers "
                f"{dense.shape}, but they should be {required} and (pairs, {NUMBERS}); "
                "docs/recommenders.md has the layout"
            )


def read_columns(path: Path) -> list[Array]:
    """Return the arrays of a .npy or .npz file, mapped: nothing is read yet.

    Raises ``ValueError`` for an archive that is compressed: it cannot be mapped.
    """
    if path.suffix == ".npy":
        return [np.load(path, mmap_mode="r")]
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(f"{n}.npy") for n in range(len(archive.namelist()))]
    return [_map_member(path, member) for member in members]


def _map_member(path: Path, member: zipfile.ZipInfo) -> Array:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{path} is compressed, but should be stored as it is to be mapped into "
            "memory: write it with numpy.savez"
        )
    with path.open("rb") as file:
        # A member's own header tells how long its name and extra field are.
        file.seek(member.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(member.header_offset + 30 + int(lengths.sum()))
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read(file)
        return np.memmap(
            path, dtype, "r", file.tell(), shape, "F" if is_fortran else "C"
        )
