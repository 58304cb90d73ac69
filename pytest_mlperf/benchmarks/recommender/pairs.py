"""Samples of the recommenders: groups of 100 to 700 user-item pairs.

The reference draws each group's size from a table of quantiles and cuts the test half
of Criteo's day 23 into groups in that order (mlcommons/inference,
recommendation/dlrm_v2/pytorch: tools/dist_quantile.txt, python/multihot_criteo.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

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
Indices = Sequence[int] | NDArray[np.int64]


def draw_groups(pairs: int) -> Starts:
    """Return where each group begins, and the number of pairs: int64 [groups + 1].

    For day 23's test half this is the official trace, byte for byte.
    """
    most = pairs // min(QUANTILES) + 1
    # The legacy generator: the reference draws with numpy.random.randint.
    draws = np.random.RandomState(SEED).randint(0, len(QUANTILES), most)
    ends = np.cumsum(np.array(QUANTILES)[draws])
    groups = int(np.searchsorted(ends, pairs)) + 1
    return np.concatenate([[0], ends[: groups - 1], [pairs]]).astype(np.int64)


def find_runs(indices: Indices) -> NDArray[np.int64]:
    """Return first and last of each run of samples that are neighbors: [runs, 2].

    A range is one of steps of one.
    """
    if isinstance(indices, range):
        return np.array([[indices[0], indices[-1]]])
    picked = np.asarray(indices, np.int64)
    ends = np.flatnonzero(np.diff(picked) != 1)
    firsts, lasts = picked[np.append(0, ends + 1)], picked[np.append(ends, -1)]
    return np.stack([firsts, lasts], axis=1)


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
    arrays: Mapping[str, Array] = field(init=False)
    """Numbers and keys by name; empty where keys are in pieces, or in a file."""

    def __post_init__(self) -> None:
        parts = (self.dense, *self.keys)
        is_whole = len(parts) == 2 and not any(isinstance(p, np.memmap) for p in parts)
        self.arrays = dict(zip(self.names, parts, strict=True)) if is_whole else {}

    @property
    def total(self) -> int:
        return len(self.starts) - 1

    def load(self, indices: Indices) -> None:
        """Read samples once, so that files that are mapped are in memory."""
        for array in (self.dense, *self.keys):
            if isinstance(array, np.memmap):
                for first, last in find_runs(indices).tolist():
                    array[self.starts[first] : self.starts[last + 1]].max()

    def unload(self, indices: Sequence[int]) -> None:
        """Nothing to do: the system takes mapped pages back when it needs them."""

    def count_pairs(self, indices: Indices) -> NDArray[np.int64]:
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

    def find_spans(self, indices: Indices) -> NDArray[np.int64]:
        """Return the pairs of a batch: [spans, (first, last + 1)]."""
        firsts, lasts = find_runs(indices).T
        return np.stack([self.starts[firsts], self.starts[lasts + 1]], axis=1)

    def copy_spans(self, spans: NDArray[np.int64], out: Mapping[str, Array]) -> None:
        """Write numbers and keys of these pairs into the first rows of ``out``."""
        bounds, pairs = spans.tolist(), count_rows(spans)
        for name, parts in zip(self.names, ((self.dense,), self.keys), strict=True):
            column = 0
            for part in parts:
                width = part.shape[1]
                np.concatenate(
                    [part[begin:end] for begin, end in bounds],
                    out=out[name][:pairs, column : column + width],
                )
                column += width

    def gather(self, indices: Indices) -> dict[str, Array]:
        """Return numbers and keys of all pairs of the samples.

        Neighbors are one contiguous copy; a batch of neighbors alone is a view.
        """
        spans = self.find_spans(indices)
        if len(spans) == 1 and len(self.keys) == 1:
            begin, end = spans[0].tolist()
            views = self.dense[begin:end], self.keys[0][begin:end]
            return dict(zip(self.names, views, strict=True))
        pairs, width = count_rows(spans), sum(part.shape[1] for part in self.keys)
        out = {
            self.names[0]: np.empty((pairs, self.dense.shape[1]), self.dense.dtype),
            self.names[1]: np.empty((pairs, width), self.keys[0].dtype),
        }
        self.copy_spans(spans, out)
        return out


def count_rows(spans: NDArray[np.int64]) -> int:
    """Return how many rows spans have together."""
    return int((spans[:, 1] - spans[:, 0]).sum())
