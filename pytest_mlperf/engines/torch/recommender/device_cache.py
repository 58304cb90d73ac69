"""A cache of embedding rows on the device, in front of host memory.

Small tables are resident whole; rows of the others share a set-associative cache. What
is missing is read by the lookup kernel itself, from pinned host memory over the bus:
no core of the host takes part. Everything is in stream order, so that updates never
tear a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

WAYS = 16
BLOCK = 16
"""Pairs of a program of the lookup."""
PROGRAMS = 512
"""Programs of the insertion."""
MOST_STAGED = 1 << 18
"""Missing rows of a batch that can be inserted; the others are asked for again."""
RESIDENT_SHARE = 0.5
"""Of the device's rows at most this share is whole tables."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """How rows of the device are shared out."""

    sizes: tuple[int, ...]
    hotness: tuple[int, ...]
    residents: tuple[int, ...]
    """First slot of each table that is there whole, else -1."""
    resident_rows: int
    sets: int

    @property
    def slots(self) -> int:
        return self.resident_rows + self.sets * WAYS


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """Keys and rows since the counters were reset."""

    keys: int
    cached_keys: int
    """Keys of tables that are not resident."""
    misses: int
    inserts: int
    evictions: int

    @property
    def hit_rate(self) -> float:
        """Of all keys."""
        return 1 - self.misses / (self.keys or 1)

    @property
    def cached_hit_rate(self) -> float:
        """Of the keys of tables that are not resident."""
        return 1 - self.misses / (self.cached_keys or 1)


def plan_cache(
    sizes: Sequence[int], hotness: Sequence[int], gpucacheper: float
) -> CachePlan:
    """Share ``gpucacheper`` of all rows out: the smallest tables whole, while they
    take at most half, and a cache of the rest.
    """
    slots = int(sum(sizes) * gpucacheper)
    residents = [-1] * len(sizes)
    used = 0
    for table in sorted(range(len(sizes)), key=lambda t: sizes[t]):
        if used + sizes[table] > slots * RESIDENT_SHARE and gpucacheper < 1:
            break
        residents[table] = used
        used += sizes[table]
    sets = max(1, (slots - used) // WAYS)
    return CachePlan(tuple(sizes), tuple(hotness), tuple(residents), used, sets)


class DeviceCache:
    """Rows of all tables: [slots, dimension] on the device, [rows, dimension] in host
    memory that the device can read (or on the device, in tests).

    Used from one stream at a time.
    """

    def __init__(
        self, plan: CachePlan, host_rows: Any, device: Any, policy: str = "lfu",
        address: int | None = None,
    ) -> None:  # fmt: skip
        import torch

        self.plan, self.host_rows, self.device = plan, host_rows, device
        self.is_lru = policy == "lru"
        self.address = host_rows.data_ptr() if address is None else address
        self.dimension = host_rows.shape[1]
        dtype = host_rows.dtype
        self.rows = torch.empty(plan.slots, self.dimension, dtype=dtype, device=device)

        def integers(values: Any, kind: Any = torch.int32) -> Any:
            return torch.tensor(values, dtype=kind, device=device)

        self.offsets = integers([*accumulate(plan.sizes, initial=0)][:-1], torch.int64)
        self.sizes = integers(plan.sizes, torch.int64)
        self.residents = integers(plan.residents, torch.int64)
        self.columns = integers([*accumulate(plan.hotness, initial=0)][:-1])
        self.hotness = integers(plan.hotness)
        self.tags = integers(-1).repeat(plan.sets, WAYS)
        self.uses = integers(-1).repeat(plan.sets, WAYS)
        self.locks = integers(0).repeat(plan.sets)
        self.epoch, self.count = integers([0]), integers([0])
        self.staged = integers(0).repeat(MOST_STAGED)
        self.staged_rows = torch.empty(
            MOST_STAGED, self.dimension, dtype=dtype, device=device
        )
        # Misses, inserts, evictions, keys outside their tables.
        self.statistics = integers([0, 0, 0, 0], torch.int64)
        self.load_residents()

    def load_residents(self) -> None:
        """Copy the tables that are resident."""
        first = 0
        for size, resident in zip(self.plan.sizes, self.plan.residents, strict=True):
            if resident >= 0:
                # Straight into its place: a table may be ten gigabytes.
                self.rows[resident : resident + size].copy_(
                    self.host_rows[first : first + size], non_blocking=True
                )
            first += size

    def look_up(self, keys: Any, out: Any) -> None:
        """Enqueue the lookup of a batch.

        ``keys``: int32 [keys of a pair, pairs]; ``out`` [pairs, tables, dimension] of
        any strides whose last is 1 gets each table's sum.
        """
        from pytest_mlperf.engines.torch.recommender import kernels

        plan, pairs = self.plan, keys.shape[1]
        self.epoch += 1
        self.count.zero_()
        kernels.look_up[(-(-pairs // BLOCK), len(plan.sizes))](
            keys, self.tags, self.uses, self.rows, self.address, out,
            self.staged_rows, self.staged, self.count, self.epoch, self.offsets,
            self.sizes, self.residents, self.columns, self.hotness, self.statistics,
            pairs, plan.sets,
            plan.resident_rows, MOST_STAGED, keys.stride(1), keys.stride(0),
            out.stride(0), out.stride(1),
            D=self.dimension, WAYS=WAYS, BLOCK=BLOCK, LRU=self.is_lru,
        )  # fmt: skip

    def insert_missing(self) -> None:
        """Enqueue the insertion of what the last lookup missed."""
        from pytest_mlperf.engines.torch.recommender import kernels

        self.statistics[:1] += self.count
        kernels.insert[(PROGRAMS,)](
            self.tags, self.uses, self.locks, self.rows, self.staged_rows, self.staged,
            self.count, self.epoch, self.statistics, self.plan.sets,
            self.plan.resident_rows, MOST_STAGED,
            D=self.dimension, WAYS=WAYS, BLOCK=BLOCK, LRU=self.is_lru,
        )  # fmt: skip

    def reset_counts(self) -> None:
        self.statistics.zero_()

    def count_rows(self, pairs: int) -> DeviceCounts:
        """Return what happened since the reset, in which ``pairs`` were looked up."""
        plan = self.plan
        misses, inserts, evictions, _ = self.statistics.tolist()
        cached = sum(
            hot
            for hot, resident in zip(plan.hotness, plan.residents, strict=True)
            if resident < 0
        )
        return DeviceCounts(
            pairs * sum(plan.hotness), pairs * cached, misses, inserts, evictions
        )

    def update(self, keys: Any, rows: Any) -> None:
        """Write rows [keys, dimension], in stream order: host memory, then the cache.

        ``keys`` are rows of the array of all tables, int64, each once.
        """
        import torch

        host = keys.to(self.host_rows.device)
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        self.host_rows[host] = rows.to(host.device, self.host_rows.dtype)
        keys, rows = keys.to(self.device), rows.to(self.device, self.rows.dtype)
        first = self.offsets
        table = torch.searchsorted(first, keys, right=True) - 1
        resident = self.residents[table]
        is_resident = resident >= 0
        self.rows[(resident + keys - first[table])[is_resident]] = rows[is_resident]
        chosen = ((keys * 2654435761 & 0xFFFFFFFF) * self.plan.sets) >> 32
        is_match = self.tags[chosen] == keys[:, None]
        is_cached = is_match.any(1) & ~is_resident
        slots = chosen * WAYS + is_match.int().argmax(1) + self.plan.resident_rows
        self.rows[slots[is_cached]] = rows[is_cached]


def draw_power_law(size: int, count: int, exponent: float, generator: Any) -> Any:
    """Return keys below ``size`` whose rank k has a probability of k ** -exponent.

    int64 on the generator's device. Ranks are scattered over the table, as a hash
    would do it.
    """
    import torch

    uniform = torch.rand(
        count, dtype=torch.float64, device=generator.device, generator=generator
    )
    power = 1 - exponent
    if abs(power) < 1e-9:
        ranks = torch.exp(uniform * np.log(size + 1.0))
    else:
        ranks = (uniform * ((size + 1.0) ** power - 1) + 1) ** (1 / power)
    ranks = (ranks.long() - 1).clamp_(0, size - 1)
    # A prime above every table: ranks stay different.
    return ranks * 2_147_483_647 % size
