"""Which shapes a plan is tuned for: optimization profiles of batch x length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

LENGTH_STEP = 64
"""Sequence lengths of profiles are multiples of this."""
LENGTH_PARTS = 3
"""Ranges that sequence lengths are cut into; each is tuned at its upper end."""
QUERY = 8
"""Samples of a MultiStream query: worth kernels of their own."""

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True, slots=True)
class Span:
    """A profile: batch and length (0: not dynamic) that it ends at and is tuned for.

    It begins at 1 x 1, so that every profile takes what is smaller.
    """

    batch: int
    length: int = 0


def spans(most: int, longest: int = 0) -> tuple[Span, ...]:
    """Return the profiles of a plan for up to ``most`` samples a batch.

    One sample (SingleStream), a query (MultiStream) and full batches want different
    kernels, and so do short and long sequences. Smallest first, without repeats.
    """
    batches = sorted({1, min(QUERY, most), most})
    lengths: list[int] = [0]
    if longest:
        parts = range(1, LENGTH_PARTS + 1)
        lengths = sorted({_rounded(longest * n / LENGTH_PARTS, longest) for n in parts})
    return tuple(Span(b, n) for b, n in product(batches, lengths))


def _rounded(length: float, longest: int) -> int:
    return min(longest, math.ceil(length / LENGTH_STEP) * LENGTH_STEP)


def ranges(span: Span, shape: Sequence[int], name: str) -> tuple[Shape, Shape, Shape]:
    """Return (min, opt, max) of an input whose graph has ``shape`` (-1: varies).

    Raises ``ValueError`` for an axis that varies and is neither batch nor length.
    """
    low, high = list(shape), list(shape)
    for axis, size in enumerate(shape):
        if size >= 0:
            continue
        if axis > 1 or (axis == 1 and not span.length):
            raise ValueError(
                f"axis {axis} of the input {name!r} varies, but only the batch (axis "
                "0) and, of models with a dynamic length, axis 1 may; export the model "
                "with that axis fixed"
            )
        low[axis], high[axis] = 1, (span.length if axis else span.batch)
    return tuple(low), tuple(high), tuple(high)


def fit(tops: Sequence[Shapes], wanted: Shapes) -> int | None:
    """Return the first profile whose largest shapes hold the wanted ones, or None."""
    for number, top in enumerate(tops):
        if all(
            len(shape) == len(top[name])
            and all(a <= b for a, b in zip(shape, top[name], strict=True))
            for name, shape in wanted.items()
        ):
            return number
    return None


def bucket(size: int, sizes: Sequence[int]) -> int:
    """Return the smallest of ``sizes`` (ascending) that holds ``size``, or itself."""
    return next((s for s in sizes if s >= size), size)


def graph_batches(most: int) -> tuple[int, ...]:
    """Return the batches that CUDA graphs are recorded for: powers of two, ``most``,
    and half-way between the large ones, where rounding up costs most.
    """
    powers = [1 << n for n in range(most.bit_length()) if 1 << n <= most]
    middles = [3 * p // 2 for p in powers if p >= 32 and 3 * p // 2 < most]
    return tuple(sorted({*powers, *middles, most}))
