"""A set-associative cache of embedding rows in memory.

A key belongs to one set of ``WAYS`` slots. What is evicted is the slot of the set that
was used least (``lfu``) or longest ago (``lru``). Counts age: a new row's goes on from
that of the row it evicts, so that yesterday's hot rows leave (LFU with dynamic aging).
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.embedding.counters import TierCounters
from pytest_mlperf.embedding.protocol import Keys

WAYS = 8
POLICIES = ("lfu", "lru")
EMPTY = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: neighboring keys land in distant sets."""


class RowCache:
    """Holds at most ``slots`` rows. Every method may be called from any thread."""

    name = "cache"

    def __init__(
        self, slots: int, rows: int, width: int, dtype: Any, policy: str = "lfu"
    ) -> None:
        """Hold ``slots`` of ``rows`` rows, whose keys are 0 to ``rows`` - 1."""
        if policy not in POLICIES:
            raise ValueError(
                f"{policy!r} is no cache policy, but should be {' or '.join(POLICIES)}"
            )
        self.counters = TierCounters()
        self._sets = max(1, slots // WAYS)
        self.policy = policy
        self._is_lru = policy == "lru"
        self._clock = 0
        # Where each key is: four bytes a row, and a lookup probes no set.
        self._places = np.full(rows, EMPTY, np.int32)
        self._tags = np.full((self._sets, WAYS), EMPTY, np.int64)
        self._uses = np.full((self._sets, WAYS), EMPTY, np.int64)
        self._uses_of_slot = self._uses.reshape(-1)
        self._rows = np.zeros((self._sets * WAYS, width), dtype)
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        return self._sets * WAYS

    def _find_sets(self, keys: Keys) -> Keys:
        spread = keys.astype(np.uint64) * _SPREAD >> np.uint64(32)
        return (spread % np.uint64(self._sets)).astype(np.int64)

    def lookup(self, keys: Keys) -> tuple[Array, NDArray[np.bool_]]:
        """Return rows [keys, width] and whether each is the key's; others are
        undefined.
        """
        began = time.perf_counter()
        with self._lock:
            # Converted once: NumPy would do it for each use as an index.
            slots = self._places.take(keys).astype(np.intp)
            # A missing key's row is any row: the caller replaces it.
            rows = self._rows.take(slots, axis=0, mode="clip")
            is_hit = slots >= 0
            used = slots if is_hit.all() else slots[is_hit]
            uses = self._uses_of_slot
            if self._is_lru:
                self._clock += 1
                uses[used] = self._clock
            else:
                # A row counts once a batch, however many pairs of it have the key.
                counts = uses.take(used)
                counts += 1
                uses[used] = counts
            counters = self.counters
            counters.hits += len(used)
            counters.misses += len(keys) - len(used)
            counters.bytes += len(used) * rows.strides[0]
            counters.calls += 1
            counters.seconds += time.perf_counter() - began
        return rows, is_hit

    def insert(self, keys: Keys, rows: Array) -> None:
        """Add rows of keys that differ from each other.

        Of more new rows than a set has ways, the last ones are left out.
        """
        if not len(keys):
            return
        sets = self._find_sets(keys)
        order = np.argsort(sets, kind="stable")
        ordered = sets[order]
        first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        turn = np.arange(len(keys)) - np.repeat(first, np.diff([*first, len(keys)]))
        with self._lock:
            for number in range(min(int(turn.max()) + 1, WAYS)):
                self._insert_apart(order[turn == number], sets, keys, rows)

    def _insert_apart(
        self, picked: NDArray[Any], sets: Keys, keys: Keys, rows: Array
    ) -> None:
        """Insert rows of which no two belong to one set."""
        picked = picked[self._places[keys[picked]] == EMPTY]
        chosen = sets[picked]
        ways = self._uses[chosen].argmin(axis=1)
        counters = self.counters
        counters.inserts += len(picked)
        old = self._tags[chosen, ways]
        old = old[old != EMPTY]
        counters.evictions += len(old)
        self._places[old] = EMPTY
        if self._is_lru:
            self._clock += 1
            used: Any = self._clock
        else:
            # The count goes on from the evicted row's: old counts lose their weight.
            used = np.maximum(self._uses[chosen, ways], 0) + 1
        self._tags[chosen, ways] = keys[picked]
        self._uses[chosen, ways] = used
        slots = chosen * WAYS + ways
        self._rows[slots] = rows[picked]
        self._places[keys[picked]] = slots

    def update(self, keys: Keys, rows: Array) -> None:
        """Write the rows of those keys that are here."""
        with self._lock:
            slots = self._places.take(keys)
            is_hit = slots >= 0
            self._rows[slots[is_hit]] = rows[is_hit]
