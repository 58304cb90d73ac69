"""The sets of samples that LoadGen loaded, as the detail log lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from operator import ne

MOST_SAMPLES = 1 << 24
"""More than any dataset has; an index from here on is refused."""
FEW = 1 << 19
ENDS = 7
"""Samples that MultiStream, of 8 samples a query, adds to a set."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One loaded set of sample indices, without the indices."""

    size: int
    distinct: int
    lowest: int
    highest: int
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    """The ends, as listed: MultiStream repeats the first at the end."""


class Sets:
    """All sets of a log: each as its figures, and together as what they cover.

    Python's sets are quick and large, so that high indices are sorted in place and
    marked in an array of bytes.
    """

    def __init__(self) -> None:
        self.loaded: list[Loaded] = []
        self._few: set[int] = set()
        self._many = bytearray()

    def add(self, indices: list[int]) -> Loaded | None:
        """Add a set; None, and nothing added, for what is no set of indices.

        May sort the list that it is given.
        """
        if not indices or set(map(type, indices)) != {int}:
            return None
        lowest, highest = min(indices), max(indices)
        first, last = tuple(indices[:ENDS]), tuple(indices[-ENDS:])
        if lowest < 0 or highest >= MOST_SAMPLES:
            return None
        if highest < FEW:
            own = set(indices)
            distinct = len(own)
            if self._few:
                self._few.update(own)
            else:
                self._few = own
        else:
            indices.sort()
            distinct = 1 + sum(map(ne, indices, islice(indices, 1, None)))
            self._mark(indices)
        found = Loaded(len(indices), distinct, lowest, highest, first, last)
        self.loaded.append(found)
        return found

    def _mark(self, indices: Iterable[int]) -> None:
        if not self._many:
            self._many = bytearray(MOST_SAMPLES)
        for index in indices:
            self._many[index] = 1

    @property
    def covered(self) -> int:
        """How many samples are in at least one set."""
        if self._many:
            self._mark(self._few)
        return self._many.count(1) or len(self._few)
