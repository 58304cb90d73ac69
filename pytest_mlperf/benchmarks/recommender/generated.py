"""The official recommenders with made-up weights, rows and keys: performance only.

Tables have Criteo's sizes, the largest cut to what half of this machine's memory holds
in float16; the title says how many rows that are. Keys follow a power law.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks.recommender import graphs
from pytest_mlperf.benchmarks.recommender.official import DIMENSION
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.benchmarks.recommender.official import PERFORMANCE_COUNT
from pytest_mlperf.benchmarks.recommender.official import SIZES
from pytest_mlperf.benchmarks.recommender.official import OfficialRecommender
from pytest_mlperf.benchmarks.recommender.pairs import MEAN_PAIRS
from pytest_mlperf.benchmarks.recommender.pairs import Indices
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.benchmarks.recommender.pairs import draw_groups
from pytest_mlperf.benchmarks.recommender.workload import RecommenderWorkload
from pytest_mlperf.benchmarks.standins import generated
from pytest_mlperf.core.whole_file import replace_whole
from pytest_mlperf.machine.host import read_memory_limit

BOTTOM = (NUMBERS, 512, 256, DIMENSION)
TOP = (1024, 1024, 512, 256, 1)
CROSS_LAYERS, CROSS_RANK = 3, 512
"""Of DCNv2; the reference's ``--dcn_num_layers`` and ``--dcn_low_rank_dim``."""
EXPONENT = 1.1
"""Rank k of a table is drawn with a probability of k ** -EXPONENT."""
GROUPS = 4096
"""Groups with keys of their own, 0.9 GB for dlrm-v2; sample n is group n modulo this.
A hit rate of a small cache is higher than it would be with fresh keys."""
FILE_ROWS = 1 << 18
"""Rows of the file, which repeat."""
CAPS = (40_000_000, 20_000_000, 10_000_000, 4_000_000, 1_000_000, 200_000, 40_000)
SHARE = 0.5
"""Of the memory that the rows may take."""


@dataclass(slots=True)
class RepeatedPairs(PairDataset):
    """More samples than groups: they come again in the same order."""

    samples: int = PERFORMANCE_COUNT

    @property
    def total(self) -> int:
        return self.samples

    def _find_groups(self, indices: Indices) -> NDArray[np.int64]:
        return np.asarray(indices, np.int64) % (len(self.starts) - 1)

    def load(self, indices: Indices) -> None:
        PairDataset.load(self, np.unique(self._find_groups(indices)))

    def count_pairs(self, indices: Indices) -> NDArray[np.int64]:
        return PairDataset.count_pairs(self, self._find_groups(indices))

    def find_spans(self, indices: Indices) -> NDArray[np.int64]:
        """Return the pairs of a batch: [spans, (first, last + 1)]."""
        return PairDataset.find_spans(self, self._find_groups(indices))


def open_generated(
    benchmark: OfficialRecommender,
    folder: Path | None = None,
    cap: int | None = None,
    groups: int = GROUPS,
) -> RecommenderWorkload:
    """Open a model of the official shapes; files are written at the first use.

    ``cap``: rows of the largest tables; None: as many as the memory allows.
    """
    name, hotness = benchmark.name, benchmark.hotness
    cap = cap or choose_cap(read_memory_limit())
    sizes = tuple(min(size, cap) for size in SIZES)
    key = sizes, hotness, groups, EXPONENT
    starts = draw_groups(round(groups * MEAN_PAIRS))
    pairs = int(starts[-1])

    def ensure(file: str, key: object, write: Callable[[Path], None]) -> Path:
        def write_file(path: Path) -> None:
            with replace_whole(path) as partial:
                write(partial)

        return generated.ensure_file(folder, f"{name}-{file}", key, write_file)

    model = ensure("dense.onnx", None, partial(write_dense, is_cross=name == "dlrm-v2"))
    rows = ensure("rows.npy", None, write_rows)
    keys = ensure("keys.npy", key, partial(write_keys, sizes, hotness, pairs))
    tables = EmbeddingTables(rows, sizes, hotness, DIMENSION)
    dense = np.random.default_rng(6).random((pairs, NUMBERS), np.float32)
    count = len(starts) - 1
    return RecommenderWorkload(
        kind="generated",
        title=f"performance only: {benchmark.title} with generated weights, "
        f"{tables.rows:,} rows of {DIMENSION} in {len(sizes)} tables (largest "
        f"{max(sizes):,}), keys by a power law of exponent {EXPONENT:g}, "
        f"{count:,} groups",
        digest=generated.digest_parts(name, key),
        model=ModelFile(
            path=model,
            inputs=(graphs.DENSE, graphs.VECTORS),
            outputs=(graphs.SCORES,),
            embedding=tables,
        ),
        dataset=RepeatedPairs(
            dense=dense,
            # In memory, not mapped: a device can fetch from there.
            keys=[np.load(keys)],
            starts=starts,
            performance_count=PERFORMANCE_COUNT,
        ),
        reference={},
        labels=np.zeros(pairs, np.int32),
    )


def choose_cap(memory: int) -> int:
    """Return the largest cap whose rows take at most half of some bytes of memory."""
    for cap in CAPS:
        rows = sum(min(size, cap) for size in SIZES)
        if rows * DIMENSION * 2 <= memory * SHARE:
            return cap
    return CAPS[-1]


def write_dense(path: Path, *, is_cross: bool) -> None:
    """Write the dense part with weights that keep activations near one."""
    random = np.random.default_rng(7)
    weights: dict[str, NDArray[np.float32]] = {}

    def draw(*shape: int) -> NDArray[np.float32]:
        scale = np.float32((2 / shape[0]) ** 0.5)
        return random.standard_normal(shape, np.float32) * scale

    count = len(SIZES) + 1
    joined = count * DIMENSION if is_cross else DIMENSION + count * (count - 1) // 2
    for part, widths in (("bottom", BOTTOM), ("top", (joined, *TOP))):
        for n, (width, following) in enumerate(itertools.pairwise(widths)):
            weights[f"{part}.{n}.weight"] = draw(width, following)
            weights[f"{part}.{n}.bias"] = np.zeros(following, np.float32)
    for n in range(CROSS_LAYERS if is_cross else 0):
        weights[f"cross.{n}.down"] = draw(joined, CROSS_RANK) * np.float32(0.5)
        weights[f"cross.{n}.weight"] = draw(CROSS_RANK, joined) * np.float32(0.2)
        weights[f"cross.{n}.bias"] = np.zeros(joined, np.float32)
    graphs.write_recommender(path, weights, len(SIZES))


def write_rows(path: Path) -> None:
    """Write rows of [-0.05, 0.05)."""
    random = np.random.default_rng(8)
    rows = random.random((FILE_ROWS, DIMENSION), np.float32)
    with path.open("wb") as file:  # to a path NumPy would add its suffix
        np.save(file, ((rows - 0.5) * 0.1).astype(np.float16))


def write_keys(
    sizes: Sequence[int], hotness: Sequence[int], pairs: int, path: Path
) -> None:
    """Write the keys of all pairs: int32 [pairs, sum of hotness]."""
    random = np.random.default_rng(9)
    keys = np.lib.format.open_memmap(
        path, "w+", dtype=np.int32, shape=(pairs, sum(hotness))
    )
    column = 0
    for size, hot in zip(sizes, hotness, strict=True):
        keys[:, column : column + hot] = draw_power_law(size, (pairs, hot), random)
        column += hot
    keys.flush()


def draw_power_law(
    size: int, shape: tuple[int, ...], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return keys below ``size``; the frequent ones are scattered over the table."""
    power = 1 - EXPONENT
    uniform = random.random(shape)
    ranks = (uniform * ((size + 1.0) ** power - 1) + 1) ** (1 / power)
    ranks = np.clip(ranks.astype(np.int64) - 1, 0, size - 1)
    # A prime above every table: ranks stay different.
    return np.asarray(ranks * 2_147_483_647 % size, np.int64)
