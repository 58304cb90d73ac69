"""Samples of the recommenders: groups of 100 to 700 user-item pairs.

The reference draws each group's size from a table of quantiles and cuts the test half
of Criteo's day 23 into groups in that order (mlcommons/inference,
recommendation/dlrm_v2/pytorch: tools/dist_quantile.txt, python/multihot_criteo.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array

QUANTILES = (100, 100, *[200] * 12, 300, 300, 400, 500, 600, 700)
"""dist_quantile.txt: the twentieths of the distribution of group sizes."""
SEED = 123
"""``--numpy-rand-seed`` of the reference's main.py."""
BENCHMARK_PAIRS = 262_144
"""``--num-benchmark-samples`` of NVIDIA's deployment guide."""
MEAN_PAIRS = sum(QUANTILES) / len(QUANTILES)

Starts = NDArray[np.int64]


def draw_groups(pairs: int, seed: int = SEED) -> Starts:
    """Return where each group begins, and the number of pairs: int64 [groups + 1].

    For day 23's test half this is the official trace, byte for byte.
    """
    most = pairs // min(QUANTILES) + 1
    # The legacy generator: the reference draws with numpy.random.randint.
    draws = np.random.RandomState(seed).randint(0, len(QUANTILES), most)
    ends = np.cumsum(np.array(QUANTILES)[draws])
    groups = int(np.searchsorted(ends, pairs)) + 1
    return np.concatenate([[0], ends[: groups - 1], [pairs]]).astype(np.int64)


def find_runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of each run of samples that are neighbors in the dataset.

    A range is one of steps of one.
    """
    if isinstance(indices, range):
        yield indices[0], indices[-1]
        return
    picked = np.asarray(indices)
    ends = np.flatnonzero(np.diff(picked) != 1)
    firsts = picked[np.append(0, ends + 1)]
    yield from zip(firsts.tolist(), picked[np.append(ends, -1)].tolist(), strict=True)


@dataclass(slots=True)
class PairDataset:
    """Groups of pairs, whose rows of a batch lie one after another without padding."""

    dense: Array
    """Numbers of each pair: float32 [pairs, numbers]."""
    keys: Sequence[Array]
    """Keys of each pair: int32 [pairs, keys of some tables], side by side."""
    starts: Starts
    performance_count: int
    names: tuple[str, str] = ("dense", "keys")
    """Names in the batch."""
    lengths: NDArray[np.int32] | None = None
    """None: nothing is padded, so sorting by size would save nothing, and would break
    up runs of neighbors."""

    @property
    def total(self) -> int:
        return len(self.starts) - 1

    def load(self, indices: Sequence[int]) -> None:
        """Read samples once, so that files that are mapped are in memory."""
        for array in (self.dense, *self.keys):
            if isinstance(array, np.memmap):
                for first, last in find_runs(indices):
                    array[self.starts[first] : self.starts[last + 1]].max()

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the system takes mapped pages back when it needs them."""

    def count_pairs(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Return the pairs of each sample."""
        if isinstance(indices, range):
            return np.diff(self.starts[indices.start : indices.stop + 1])
        picked = np.asarray(indices)
        return np.asarray(self.starts[picked + 1] - self.starts[picked])

    def in_pairs(self) -> PairDataset:
        """Return the first pairs as samples of their own."""
        count = min(int(self.starts[-1]), BENCHMARK_PAIRS)
        return PairDataset(
            self.dense, self.keys, np.arange(count + 1), count, self.names
        )

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return numbers and keys of all pairs of the samples.

        Neighbors are one contiguous copy; a batch of neighbors alone is a view.
        """
        spans = [
            (int(self.starts[first]), int(self.starts[last + 1]))
            for first, last in find_runs(indices)
        ]
        columns: list[Any] = [_join(array, spans) for array in self.keys]
        keys = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
        return dict(zip(self.names, (_join(self.dense, spans), keys), strict=True))


def _join(array: Array, spans: Sequence[tuple[int, int]]) -> Array:
    if len(spans) == 1:
        return array[spans[0][0] : spans[0][1]]
    return np.concatenate([array[begin:end] for begin, end in spans])
