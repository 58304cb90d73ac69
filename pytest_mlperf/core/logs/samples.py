"""The sets of samples that LoadGen loaded, as the detail log lists them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from operator import ne

MOST_SAMPLES = 1 << 24
"""More than any dataset has; an index from here on is refused."""
FEW = 1 << 19
SPARSE = 64
"""A set whose highest index is so many times its size is no mask."""
LISTING = '{"key": "loaded_qsl_set", "value": ['
"""How LoadGen begins the record of a set."""
LONG = 4096
"""Characters of a record from where on it is worth while to know its list again."""
RECENT_BYTES = 1 << 24
ENDS = 7
"""Samples that MultiStream, of 8 samples a query, adds to a set."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One loaded set of sample indices, without the indices."""

    size: int
    distinct: int
    highest: int
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    """The ends, as listed: MultiStream repeats the first at the end."""


class RecentSets:
    """Sets that were read before and their masks, by the digest of their list's text.

    Runs with one seed and one dataset load the same samples in the same order, and a
    round's results are thousands of such runs.
    """

    def __init__(self) -> None:
        self._found: OrderedDict[bytes, tuple[Loaded, int]] = OrderedDict()
        self._size = 0

    def find(self, digest: bytes) -> tuple[Loaded, int] | None:
        """Return a set and its mask; None for one that is not known."""
        if known := self._found.get(digest):
            self._found.move_to_end(digest)
        return known

    def keep(self, digest: bytes, loaded: Loaded, mask: int) -> None:
        """Keep a set and its mask, and forget the oldest where they are too many."""
        self._found[digest] = loaded, mask
        self._size += loaded.highest + 1
        while self._size > RECENT_BYTES:
            _, (oldest, _) = self._found.popitem(last=False)
            self._size -= oldest.highest + 1


RECENT = RecentSets()


def split_record(text: str) -> tuple[str, str] | None:
    """Return the list of a set's long record, and the record with an empty one.

    None for any other record, and for one that is not as LoadGen writes it.
    """
    if len(text) < LONG or not text.startswith(LISTING):
        return None
    begin = len(LISTING) - 1
    end = text.find("]", begin) + 1
    return (text[begin:end], f"{text[:begin]}[]{text[end:]}") if end else None


def make_mask(indices: Iterable[int], highest: int) -> int:
    """Return a number whose byte ``n`` is 1 where sample ``n`` is in the set."""
    marks = bytearray(highest + 1)
    for index in indices:
        marks[index] = 1
    return int.from_bytes(marks, "little")


class Sets:
    """All sets of a log: each as its figures, and together as what they cover.

    A set is a mask, which takes a byte a sample. A sparse one is Python's set, and high
    indices are sorted in place and marked in one array of bytes.
    """

    def __init__(self) -> None:
        self.loaded: list[Loaded] = []
        self._few: set[int] = set()
        self._mask = 0
        self._many = bytearray()
        self._digest = b""
        self._known: tuple[Loaded, int] | None = None

    def shorten(self, text: str) -> str:
        """Return a record, without its list where it is of a set that is known.

        What ``add`` is given next is that list, whatever is left of it.
        """
        self._digest, self._known = b"", None
        if parts := split_record(text):
            listed, rest = parts
            self._digest = blake2b(listed.encode()).digest()
            self._known = RECENT.find(self._digest)
            text = rest if self._known else text
        return text

    def add(self, indices: list[int]) -> Loaded | None:
        """Add a set; None, and nothing added, for what is no set of indices.

        May sort the list that it is given.
        """
        if self._known:
            loaded, mask = self._known
            self._mask |= mask
            self.loaded.append(loaded)
            return loaded
        if not indices or set(map(type, indices)) != {int}:
            return None
        highest = max(indices)
        first, last = tuple(indices[:ENDS]), tuple(indices[-ENDS:])
        if min(indices) < 0 or highest >= MOST_SAMPLES:
            return None
        mask = 0
        if highest >= FEW:
            indices.sort()
            distinct = 1 + sum(map(ne, indices, islice(indices, 1, None)))
            self._mark(indices)
        elif highest > SPARSE * len(indices):
            own = set(indices)
            distinct = len(own)
            self._few |= own
        else:
            mask = make_mask(indices, highest)
            distinct = mask.bit_count()
            self._mask |= mask
        found = Loaded(len(indices), distinct, highest, first, last)
        self.loaded.append(found)
        if mask and self._digest:
            RECENT.keep(self._digest, found, mask)
        return found

    def _mark(self, indices: Iterable[int]) -> None:
        if not self._many:
            self._many = bytearray(MOST_SAMPLES)
        for index in indices:
            self._many[index] = 1

    @property
    def covered(self) -> int:
        """How many samples are in at least one set."""
        mask = self._mask | int.from_bytes(self._many, "little")
        marks = mask.to_bytes(-(-mask.bit_length() // 8), "little")
        rest = sum(n >= len(marks) or not marks[n] for n in self._few)
        return mask.bit_count() + rest
