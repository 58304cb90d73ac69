"""Run the recommenders' kernels in Triton's interpreter; print findings as JSON.

A process of its own: Triton decides at import whether it interprets.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from pytest_mlperf.engines.torch.recommender import dense
from pytest_mlperf.engines.torch.recommender import device_cache
from pytest_mlperf.engines.torch.recommender.dense import DenseNetwork
from pytest_mlperf.engines.torch.recommender.dense import draw_weights

SIZES, HOTNESS, DIMENSION = (200, 3, 1000, 50), (1, 2, 3, 1), 16
PAIRS = 21, 5, 5, 5
"""Of each batch in turn: two blocks, and a part of one."""
TURNS = 20
CPU = torch.device("cpu")


def sum_rows(rows: Any, keys: Any) -> Any:
    """Return what a lookup should return: float32 [pairs, tables, dimension]."""
    first, column, sums = 0, 0, []
    for size, hot in zip(SIZES, HOTNESS, strict=True):
        picked = rows[keys[column : column + hot].long() + first].float()
        sums.append(picked.sum(0))
        first, column = first + size, column + hot
    return torch.stack(sums, 1)


def exercise_cache(policy: str, dtype: Any) -> dict[str, Any]:
    """Look up, insert, evict and update; count answers that are wrong."""
    rows = (torch.arange(sum(SIZES)) % 2048)[:, None].repeat(1, DIMENSION).to(dtype)
    plan = device_cache.plan_cache(SIZES, HOTNESS, 0.04)
    cache = device_cache.DeviceCache(plan, rows, CPU, policy)
    generator = torch.Generator().manual_seed(1)
    wrong = twice = asked = 0
    for turn in range(TURNS):
        pairs = PAIRS[turn % len(PAIRS)]
        asked += pairs
        columns = zip(SIZES, HOTNESS, strict=True)
        keys = torch.stack(
            [
                device_cache.draw_power_law(size, pairs, 1.1, generator)
                for size, hot in columns
                for _ in range(hot)
            ]
        ).int()
        features = torch.full((pairs, 5, DIMENSION), -7, dtype=dtype)
        cache.look_up(keys, features[:, 1:])
        cache.insert_missing()
        wrong += int((features[:, 1:] != sum_rows(rows, keys).to(dtype)).sum())
        wrong += int((features[:, 0] != -7).sum())
        tags = cache.tags[cache.tags >= 0]
        twice += len(tags) - len(tags.unique())
        if turn in (3, 7):
            # A row of each table, and one that is likely in the cache.
            changed = torch.tensor([0, 200, 204, 1210, int(tags[0])]).unique()
            cache.update(changed, torch.rand(len(changed), DIMENSION).to(dtype))
    keys[0, 0], keys[-1, 3] = SIZES[0], -1
    cache.look_up(keys, features[:, 1:])
    counts = cache.count_rows(asked + pairs)
    return {
        "wrong": wrong,
        "twice": twice,
        "evictions": counts.evictions,
        "overfull": max(0, counts.inserts - counts.evictions - plan.sets * 16),
        "missed more than asked": counts.misses > counts.cached_keys,
        "slots": plan.slots,
        "unknown": int(cache.statistics[3]),
    }


def compare_dense(cross: tuple[int, int], *, is_split: bool = False) -> float:
    """Return the largest difference of a probability from plain PyTorch."""
    weights = draw_weights((13, 32, DIMENSION), (32, 1), 4, cross)
    network = DenseNetwork(weights, 4, CPU, torch.float32, is_split=is_split)
    features, dense = network.make_features(9, CPU), torch.randn(9, 13)
    features[:, 1:] = torch.randn(9, 4, DIMENSION)
    bottom = dense
    for n in range(2):
        bottom = torch.relu(bottom @ weights[f"bottom.{n}.weight"])
    joined = torch.cat([bottom[:, None], features[:, 1:]], 1)
    if cross[0]:
        first = value = joined.flatten(1)
        for n in range(cross[0]):
            low = value @ weights[f"cross.{n}.down"]
            value = first * (low @ weights[f"cross.{n}.weight"]) + value
    else:
        dots = joined @ joined.transpose(1, 2)
        below = torch.tril_indices(5, 5, -1)
        value = torch.cat([bottom, dots[:, below[0], below[1]]], 1)
    top = torch.relu(value @ weights["top.0.weight"]) @ weights["top.1.weight"]
    return float((network.run(dense, features) - top[:, 0].sigmoid()).abs().max())


def round_to_tf32(values: Any) -> Any:
    """Return the numbers that a matrix unit makes of float32."""
    nearest = values.view(torch.int32) + 0x1000
    return (nearest & dense.UPPER).view(torch.float32)


def measure_split() -> dict[str, float]:
    """Return the errors of a product in TF32 and in split TF32, as shares of the
    largest number.
    """
    values, weight = torch.randn(64, 250), torch.randn(250, 64)
    network = DenseNetwork(
        draw_weights((13, 16), (8, 1), 4), 4, CPU, torch.float32, is_split=True
    )
    wide, tall = network._split(values), dense.split_weight(weight)
    exact = values.double() @ weight.double()

    def compare(left: Any, right: Any) -> float:
        # Sums in float64: of the numbers alone, as they enter the products.
        error = (left.double() @ right.double() - exact).abs().max()
        return float(error / exact.abs().max())

    return {
        "tf32": compare(round_to_tf32(values), round_to_tf32(weight)),
        "split": compare(round_to_tf32(wide), round_to_tf32(tall)),
    }


if __name__ == "__main__":
    device_cache.PROGRAMS = 2
    torch.manual_seed(0)
    print(  # noqa: T201
        json.dumps(
            {
                "lfu": exercise_cache("lfu", torch.float16),
                "lru": exercise_cache("lru", torch.float32),
                "dot": compare_dense((0, 0)),
                "cross": compare_dense((2, 8)),
                "split dot": compare_dense((0, 0), is_split=True),
                "split cross": compare_dense((2, 8), is_split=True),
                "errors": measure_split(),
            }
        )
    )
