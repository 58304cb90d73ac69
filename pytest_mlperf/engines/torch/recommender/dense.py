"""The dense part of DLRM and DCNv2 in PyTorch, on features that the lookup wrote."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

ALIGNED = 8
"""Columns are padded to a multiple: matrix units need rows of 16 bytes in fp16."""
SPLIT_ALIGNED = 4
"""The same in fp32."""
UPPER = -8192
"""Mask of the bits of a float32 that TF32 has: all but the last 13 of the mantissa."""


class DenseNetwork:
    """Weights on the device; named as ``benchmarks.recommender.graphs`` names them.

    DCNv2 where there are cross layers, else DLRM with dot interaction.

    ``is_split``: of float32, each product is one of three TF32 products over split
    numbers (upper x upper, upper x rest, rest x upper), which is nearly as exact as
    float32 and runs on the matrix units. It needs ``allow_tf32``.
    """

    def __init__(
        self, weights: Mapping[str, Any], tables: int, device: Any, dtype: Any,
        *, is_split: bool = False,
    ) -> None:  # fmt: skip
        import torch

        self.dtype, self.tables, self.is_split = dtype, tables, is_split
        self.weights = {
            name: torch.as_tensor(value).to(device, dtype)
            for name, value in weights.items()
        }
        last = self._count("bottom") - 1
        self.dimension = self.weights[f"bottom.{last}.bias"].shape[0]
        self.numbers = self.weights["bottom.0.weight"].shape[0]
        self.is_cross = "cross.0.weight" in weights
        if not self.is_cross:
            first = self.weights["top.0.weight"]
            self.width = -(-len(first) // ALIGNED) * ALIGNED
            padding = (0, 0, 0, self.width - len(first))
            self.weights["top.0.weight"] = torch.nn.functional.pad(first, padding)
        if is_split:
            for name, value in self.weights.items():
                if value.ndim == 2:
                    self.weights[name] = split_weight(value)

    def _count(self, part: str) -> int:
        return sum(
            name.startswith(f"{part}.") and name.endswith(".bias")
            for name in self.weights
        )

    def make_features(self, pairs: int, device: Any) -> Any:
        """Return room for a batch: [pairs, 1 + tables, dimension]."""
        import torch

        shape = pairs, self.tables + 1, self.dimension
        return torch.zeros(shape, dtype=self.dtype, device=device)

    def run(self, dense: Any, features: Any) -> Any:
        """Return probabilities [pairs], float32; ``features`` 1 … are the vectors."""
        features[:, 0] = self._run_mlp("bottom", dense.to(self.dtype), is_last=False)
        value = self._cross(features) if self.is_cross else self._interact(features)
        return self._run_mlp("top", value, is_last=True).float().sigmoid()[:, 0]

    def _run_mlp(self, part: str, value: Any, *, is_last: bool) -> Any:
        import torch

        count = self._count(part)
        for n in range(count):
            weight = self.weights[f"{part}.{n}.weight"]
            bias = self.weights[f"{part}.{n}.bias"]
            value = self._split(value)
            if is_last and n == count - 1:
                value = torch.addmm(bias, value, weight)
            else:
                # Bias and ReLU in the product's own kernel.
                value = torch._addmm_activation(bias, value, weight)
        return value

    def _cross(self, features: Any) -> Any:
        import torch

        first = value = features.flatten(1)
        for n in range(self._count("cross")):
            low = self._split(self._split(value) @ self.weights[f"cross.{n}.down"])
            bias, weight = (self.weights[f"cross.{n}.{k}"] for k in ("bias", "weight"))
            value = torch.addcmul(value, first, torch.addmm(bias, low, weight))
        return value

    def _split(self, value: Any) -> Any:
        """Return [pairs, width] as [pairs, 3 x padded width], where products are."""
        import torch

        if not self.is_split:
            return value
        from pytest_mlperf.engines.torch.recommender import kernels

        pairs, width = value.shape
        padded = pad_width(width)
        out = torch.empty(pairs, 3 * padded, device=value.device)
        block = 1 << (padded - 1).bit_length()
        kernels.split[(pairs,)](value.contiguous(), out, width, padded, BLOCK=block)
        return out

    def _interact(self, features: Any) -> Any:
        import torch

        from pytest_mlperf.engines.torch.recommender import kernels

        pairs, count, dimension = features.shape
        out = torch.zeros(pairs, self.width, dtype=self.dtype, device=features.device)
        rows = max(16, 1 << (count - 1).bit_length())
        is_exact = self.is_split or not torch.backends.cuda.matmul.allow_tf32
        is_exact = is_exact and self.dtype == torch.float32
        kernels.interact[(pairs,)](
            features, out, self.width, F=count, D=dimension, ROWS=rows,
            PRODUCTS="tf32x3" if is_exact else "tf32",
        )  # fmt: skip
        return out


def pad_width(width: int) -> int:
    """Return how many columns split numbers of a width have, of each part."""
    return -(-width // SPLIT_ALIGNED) * SPLIT_ALIGNED


def split_weight(weight: Any) -> Any:
    """Return [width, n] as [3 x padded width, n]: upper, rest, upper."""
    import torch

    upper = (weight.view(torch.int32) & UPPER).view(torch.float32)
    missing = pad_width(len(weight)) - len(weight)
    parts = (upper, weight - upper, upper)
    padding = (0, 0, 0, missing)
    return torch.cat([torch.nn.functional.pad(part, padding) for part in parts])


def draw_weights(
    bottom: tuple[int, ...],
    top: tuple[int, ...],
    tables: int,
    cross: tuple[int, int] = (0, 0),
    seed: int = 0,
) -> dict[str, Any]:
    """Return random weights, float32, scaled to keep activations near one.

    ``bottom`` and ``top`` are the MLPs' widths, the first being the numbers of a pair;
    ``cross`` is layers and rank of DCNv2, (0, 0) for DLRM.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Any] = {}

    def draw(*shape: int) -> Any:
        return torch.randn(shape, generator=generator) * (2 / shape[0]) ** 0.5

    dimension, count = bottom[-1], tables + 1
    layers, rank = cross
    joined = count * dimension if layers else dimension + count * (count - 1) // 2
    for part, widths in (("bottom", bottom), ("top", (joined, *top))):
        for n, (width, following) in enumerate(itertools.pairwise(widths)):
            weights[f"{part}.{n}.weight"] = draw(width, following)
            weights[f"{part}.{n}.bias"] = torch.zeros(following)
    for n in range(layers):
        weights[f"cross.{n}.down"] = draw(joined, rank) * 0.5
        weights[f"cross.{n}.weight"] = draw(rank, joined) * 0.5
        weights[f"cross.{n}.bias"] = torch.zeros(joined)
    return weights
