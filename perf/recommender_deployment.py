"""A recommender whose rows are made up: host memory, device cache and dense part."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.benchmarks.recommender.official import DIMENSION
from pytest_mlperf.benchmarks.recommender.official import NUMBERS
from pytest_mlperf.benchmarks.recommender.official import ONE_HOT
from pytest_mlperf.benchmarks.recommender.official import SIZES
from pytest_mlperf.engines.torch.recommender import dense
from pytest_mlperf.engines.torch.recommender import device_cache
from pytest_mlperf.engines.torch.recommender import host_rows

BOTTOM = (NUMBERS, 512, 256, DIMENSION)
TOP = (1024, 1024, 512, 256, 1)
CROSS = {"dlrm": (0, 0), "dcnv2": (3, 512)}
HALF = ("fp16",)
"""Precisions whose rows are float16; those of the others are float32."""
CHUNK = 1 << 20
"""Rows that are made at a time."""


def log(text: str) -> None:
    """Print a line with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)  # noqa: T201


@dataclass(slots=True)
class Deployment:
    """Rows in host memory and on the device, and a model that uses them."""

    cache: Any
    pinned: Any
    sizes: tuple[int, ...]
    exponent: float
    generator: Any
    network: Any = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    """Of the network, before it changes them."""

    def draw_keys(self, pairs: int) -> Any:
        """Return int32 [tables, pairs] on the device."""
        import torch

        return torch.stack(
            [
                device_cache.draw_power_law(
                    size, pairs, self.exponent, self.generator
                ).int()
                for size in self.sizes
            ]
        )


def cap_sizes(parameters: float) -> tuple[int, ...]:
    """Return Criteo's tables, the largest cut so that the rows have that many
    parameters.
    """
    low, high = 1, max(SIZES)
    while low < high:
        cap = (low + high + 1) // 2
        fits = sum(min(size, cap) for size in SIZES) * DIMENSION <= parameters
        low, high = (cap, high) if fits else (low, cap - 1)
    return tuple(min(size, low) for size in SIZES)


def make_rows(first: int, last: int, device: Any, dtype: Any) -> Any:
    """Return rows that follow from their numbers: [-0.05, 0.05)."""
    import torch

    row = torch.arange(first, last, device=device, dtype=torch.int64)[:, None]
    return hash_rows(row, dtype)


def hash_rows(row: Any, dtype: Any) -> Any:
    """Return the vectors of rows given as int64 [..., 1]."""
    import torch

    number = torch.arange(DIMENSION, device=row.device, dtype=torch.int64)
    mixed = (row * 2654435761 + number * 40503) % 65521
    return (mixed.to(torch.float32) / 65521 - 0.5).mul_(0.1).to(dtype)


def deploy(options: argparse.Namespace, dtype: Any) -> Deployment:
    """Fill host memory and plan the cache: what all models of a row type share."""
    import torch

    device = torch.device("cuda")
    sizes = cap_sizes(options.parameters)
    rows = sum(sizes)
    began = time.monotonic()
    pinned = host_rows.pin_rows(rows, DIMENSION, dtype)
    log(
        f"{rows:,} rows, {pinned.tensor.nbytes / 1e9:.1f} GB pinned in "
        f"{time.monotonic() - began:.0f} s"
    )
    began = time.monotonic()
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows)
        pinned.tensor[first:last].copy_(make_rows(first, last, device, dtype))
    torch.cuda.synchronize()
    log(f"filled in {time.monotonic() - began:.0f} s")
    plan = device_cache.plan_cache(sizes, ONE_HOT, options.gpucacheper)
    cache = device_cache.DeviceCache(
        plan, pinned.tensor, device, options.policy, pinned.address
    )
    log(
        f"device: {plan.slots:,} rows ({plan.resident_rows:,} of "
        f"{sum(r >= 0 for r in plan.residents)} whole tables), "
        f"{cache.rows.nbytes / 1e9:.2f} GB"
    )
    generator = torch.Generator(device).manual_seed(options.seed)
    return Deployment(cache, pinned, sizes, options.exponent, generator)


def add_network(deployment: Deployment, model: str, precision: str) -> None:
    """Put a model's dense part on the device, instead of the one before."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision.startswith("tf32")
    cache, count = deployment.cache, len(deployment.sizes)
    dtype = cache.rows.dtype
    deployment.weights = {
        name: value.to(cache.device, dtype)
        for name, value in dense.draw_weights(BOTTOM, TOP, count, CROSS[model]).items()
    }
    deployment.network = dense.DenseNetwork(
        deployment.weights, count, cache.device, dtype, is_split=precision == "tf32x3"
    )
