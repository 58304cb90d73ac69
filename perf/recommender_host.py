"""What a batch of groups costs the host before the device has it, without a device.

    python -m perf.recommender_host

Three ways in turn: two copies (gathered, then copied to where the device reads), one
copy, and addresses alone, with which the device fetches. The first two also of keys in
pieces, an array for each table, as the official files of dlrm-v2 have them. Prints CPU
time of the thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from pytest_mlperf.benchmarks.recommender.official import MULTI_HOT
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.benchmarks.recommender.pairs import MEAN_PAIRS
from pytest_mlperf.benchmarks.recommender.pairs import PairDataset
from pytest_mlperf.benchmarks.recommender.pairs import draw_groups
from pytest_mlperf.engines.torch.host_fetch import place_spans

WARM_UP = 3


def make_ways(
    data: PairDataset, pieces: PairDataset, room: int
) -> dict[str, Callable[[list[int]], None]]:
    """Return what brings a batch of samples to memory for ``room`` pairs.

    ``pieces``: the same pairs, whose keys are in several arrays.
    """
    staged = {
        name: np.zeros((room, array.shape[1]), array.dtype)
        for name, array in data.arrays.items()
    }

    def copy_twice(source: PairDataset, indices: list[int]) -> None:
        for name, array in source.gather(indices).items():
            np.copyto(staged[name][: len(array)], array)

    def copy_once(source: PairDataset, indices: list[int]) -> None:
        source.copy_spans(source.find_spans(indices), staged)

    def find_addresses(indices: list[int]) -> None:
        spans = data.find_spans(indices)
        for name, array in data.arrays.items():
            row = array.nbytes // len(array)
            place_spans(spans, staged[name].ctypes.data, array.ctypes.data, row)

    return {
        "two copies": partial(copy_twice, data),
        "one copy": partial(copy_once, data),
        "addresses": find_addresses,
        "two copies, pieces": partial(copy_twice, pieces),
        "one copy, pieces": partial(copy_once, pieces),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=158, help="groups")
    parser.add_argument("--groups", type=int, default=1024, help="of the dataset")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(1)
    starts = draw_groups(round(options.groups * MEAN_PAIRS))
    pairs, total = int(starts[-1]), len(starts) - 1
    keys = random.integers(0, 1000, (pairs, sum(MULTI_HOT)), np.int32)
    dense = random.random((pairs, NUMBERS), np.float32)
    parts = np.split(keys, np.cumsum(MULTI_HOT)[:-1], axis=1)
    whole = PairDataset(dense, [keys], starts, total)
    pieces = PairDataset(dense, [*map(np.ascontiguousarray, parts)], starts, total)
    ways = make_ways(whole, pieces, 2 * round(options.batch * MEAN_PAIRS))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(WARM_UP + options.rounds):
        indices = random.integers(0, total, options.batch).tolist()
        for name, call in ways.items():
            began = time.thread_time()
            call(indices)
            taken[name].append((time.thread_time() - began) * 1e3)
    middle = {name: float(np.median(ms[WARM_UP:])) for name, ms in taken.items()}
    for name, ms in middle.items():
        share = middle["two copies"] / ms
        print(f"{name:18} {ms:7.2f} ms of CPU, {share:.1f} times as fast")  # noqa: T201


if __name__ == "__main__":
    main()
