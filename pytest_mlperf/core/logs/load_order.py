"""The order in which LoadGen loads samples, from the seed that it logs.

loadgen.cc, GenerateLoadableSets: std::shuffle of all indices with std::mt19937. What
std::shuffle does is the C++ library's own; both forms of libstdc++ are here, that of
GCC 11 and later and the one before. The 727 performance logs of six rounds that were
tried have one of the two.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

SHOWN = 7
"""Indices of a loaded set that a log's reader keeps."""
WORD = 1 << 32
Draw = Callable[[random.Random, int], int]


def seed_twister(seed: int) -> random.Random:
    """Return a generator whose 32-bit words are those of std::mt19937(seed)."""
    state = [seed % WORD]
    for place in range(1, 624):
        last = state[-1]
        state.append((1_812_433_253 * (last ^ last >> 30) + place) % WORD)
    words = random.Random()
    words.setstate((3, (*state, 624), None))
    return words


def draw_by_product(words: random.Random, count: int) -> int:
    """Return a number below ``count`` as libstdc++ of GCC 11 and later draws it."""
    product = words.getrandbits(32) * count
    if product % WORD < count:
        least = (WORD - count) % count
        while product % WORD < least:
            product = words.getrandbits(32) * count
    return product // WORD


def draw_by_quotient(words: random.Random, count: int) -> int:
    """Return a number below ``count`` as libstdc++ before GCC 11 draws it."""
    scale = (WORD - 1) // count
    while True:
        word = words.getrandbits(32)
        if word < count * scale:
            return word // scale


@lru_cache(maxsize=256)
def shuffle_samples(seed: int, total: int, draw: Draw) -> tuple[int, ...]:
    """Return the first of ``total`` indices in the order that a seed gives."""
    words, order = seed_twister(seed), list(range(total))
    place = 1
    # Of one word libstdc++ draws two places where both fit into it.
    if total and (WORD - 1) // total >= total:
        if total % 2 == 0:
            swap(order, place, draw(words, 2))
            place += 1
        while place < total:
            both = draw(words, (place + 1) * (place + 2))
            for other in divmod(both, place + 2):
                swap(order, place, other)
                place += 1
    while place < total:
        swap(order, place, draw(words, place + 1))
        place += 1
    return tuple(order[:SHOWN])


def swap(order: list[int], place: int, other: int) -> None:
    order[place], order[other] = order[other], order[place]


def list_permutations(seed: int, total: int) -> tuple[tuple[int, ...], ...]:
    """Return how a performance run's loaded set can begin."""
    draws = (draw_by_product, draw_by_quotient)
    return tuple(shuffle_samples(seed, total, draw) for draw in draws)
