"""A BERT encoder on packed tokens: no padding, few kernels, fp16, bf16 or fp8.

A layer is four products (cuBLASLt, with bias, GELU and residual inside), one attention
kernel and two LayerNorms. Every buffer is allocated once, so a pass over a bucket is a
fixed list of launches: a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from pytest_mlperf.engines.torch.packing import ROWS
from pytest_mlperf.engines.torch.packing import capacity
from pytest_mlperf.engines.torch.packing import flat_size

SITES = ("input", "mixed", "attended", "wide")
"""What is quantised in each layer: the input of each of its four products."""
PRODUCTS = ("qkv", "mix", "up", "down")
FP8_MAX = 448.0
APART = 4
"""Floats from one scale to the next: the library wants them 16 bytes apart."""
HEADROOM = 2.0
"""Calibrated maxima are stretched by this, which costs a floating-point format nothing;
what is larger still saturates."""

Observe = Callable[[int, str, Any], None]


@dataclass(slots=True)
class BertWeights:
    """Float32 arrays, matrices as [out, in]; ``layers`` has ``PRODUCTS`` and the two
    norms by name, each as (weight, bias).
    """

    words: Any
    places: Any
    kinds: Any
    norm: tuple[Any, Any]
    layers: list[dict[str, tuple[Any, Any]]]
    head: tuple[Any, Any]
    heads: int
    eps: float

    @property
    def hidden(self) -> int:
        return int(self.words.shape[1])

    @property
    def wide(self) -> int:
        return int(self.layers[0]["up"][0].shape[0])


@dataclass(slots=True)
class Bert:
    """Weights on the device, shared by its streams."""

    shape: BertWeights
    dtype: Any
    fp8: bool
    device: Any
    tensors: dict[str, Any] = field(default_factory=dict)
    scales: Any = None
    """float32 [layer, site, 2, APART]: the factor into fp8 and the one back."""
    weight_scales: Any = None
    """float32 [layer, product, APART]: the factor back."""

    def __post_init__(self) -> None:
        import numpy as np
        import torch

        def put(name: str, array: Any, dtype: Any) -> None:
            host = torch.from_numpy(np.ascontiguousarray(array))
            self.tensors[name] = host.to(self.device).to(dtype)

        shape = self.shape
        for name in ("words", "places", "kinds"):
            put(name, getattr(shape, name), self.dtype)
        put("norm.w", shape.norm[0], torch.float32)
        put("norm.b", shape.norm[1], torch.float32)
        put("head.w", shape.head[0], torch.float32)
        put("head.b", shape.head[1], torch.float32)
        count = len(shape.layers)
        self.scales = torch.ones(count, len(SITES), 2, APART, device=self.device)
        self.weight_scales = torch.ones(count, len(PRODUCTS), APART, device=self.device)
        for number, layer in enumerate(shape.layers):
            for name, (weight, bias) in layer.items():
                norm = name.startswith("norm")
                kind = torch.float32 if norm else self.dtype
                put(f"{number}.{name}.w", weight, kind)
                put(f"{number}.{name}.b", bias, kind)

    def quantise(self, maxima: Any) -> None:
        """Turn the weights to fp8 and fix the activations' scales.

        ``maxima``: float32 [layer, site], the largest magnitudes seen.
        """
        import torch

        factor = FP8_MAX / (maxima.clamp(min=1e-6) * HEADROOM)
        pairs = torch.stack([factor, 1 / factor], -1)
        self.scales = pairs[..., None].expand(-1, -1, -1, APART).contiguous()
        for number in range(len(self.shape.layers)):
            for place, name in enumerate(PRODUCTS):
                weight = self.tensors[f"{number}.{name}.w"].float()
                top = weight.abs().amax() / FP8_MAX
                self.weight_scales[number, place] = top
                low = (weight / top).to(torch.float8_e4m3fn)
                self.tensors[f"{number}.{name}.w"] = low
        self.fp8 = True


class BertStream:
    """Buffers and launches of one stream."""

    def __init__(self, bert: Bert, most: int, blas: Any) -> None:
        import torch

        from pytest_mlperf.engines.torch.bert import kernels

        self.bert, self.most, self.blas = bert, most, blas
        self.kernels = kernels
        hidden, wide, device = bert.shape.hidden, bert.shape.wide, bert.device
        kind = bert.dtype
        low = torch.float8_e4m3fn

        def room(columns: int, dtype: Any) -> Any:
            # Zeros: a bucket's unused rows are computed too, and must stay finite.
            return torch.zeros(most, columns, dtype=dtype, device=device)

        self.x, self.y = room(hidden, kind), room(hidden, kind)
        self.qkv = room(3 * hidden, kind)
        self.mixed = room(hidden, low if bert.fp8 else kind)
        self.wide = room(wide, low if bert.fp8 else kind)
        self.low = room(hidden, low) if bert.fp8 else self.x
        self.logits = room(2, torch.float32)
        self.flat = torch.zeros(flat_size(most), dtype=torch.int32, device=device)

    def launch(self, bucket: int, observe: Observe | None = None) -> None:
        """Enqueue one pass over ``flat`` into ``logits`` on the current stream."""
        bert, k = self.bert, self.kernels
        shape, tensors, fp8 = bert.shape, bert.tensors, bert.fp8
        hidden, depth = shape.hidden, shape.hidden // shape.heads
        block = 1 << (hidden - 1).bit_length()
        warps = 4 if block >= 512 else 1
        x, y, low = self.x[:bucket], self.y[:bucket], self.low[:bucket]
        qkv, mixed, wide = self.qkv[:bucket], self.mixed[:bucket], self.wide[:bucket]
        blocks = self.flat[3 * bucket :]
        norm = {"H": hidden, "BLOCK": block, "FP8": fp8, "num_warps": warps}
        factor = bert.scales
        k.embed[(bucket,)](
            self.flat, tensors["words"], tensors["places"], tensors["kinds"],
            tensors["norm.w"], tensors["norm.b"], x, low, factor[0, 0], bucket,
            shape.eps, **norm,
        )  # fmt: skip
        last = len(shape.layers) - 1
        for n in range(last + 1):
            feed = low if fp8 else x
            if observe:
                observe(n, "input", x)
            self._product(n, 0, feed, qkv)
            k.attend[(capacity(bucket), shape.heads)](
                qkv, mixed, mixed, factor[n, 1], blocks,
                math.log2(math.e) / math.sqrt(depth),
                H=hidden, D=depth, M=ROWS, N=32, FP8=fp8, num_warps=4,
                num_stages=3,
            )  # fmt: skip
            if observe:
                observe(n, "mixed", mixed)
            self._product(n, 1, mixed, y, add=x)
            k.normalise[(bucket,)](
                y, tensors[f"{n}.norm1.w"], tensors[f"{n}.norm1.b"], x, low,
                factor[n, 2], bucket, shape.eps, **norm,
            )  # fmt: skip
            if observe:
                observe(n, "attended", x)
            self._product(n, 2, feed, wide, activation="gelu")
            if observe:
                observe(n, "wide", wide)
            self._product(n, 3, wide, y, add=x)
            k.normalise[(bucket,)](
                y, tensors[f"{n}.norm2.w"], tensors[f"{n}.norm2.b"], x, low,
                factor[min(n + 1, last), 0], bucket, shape.eps, **norm,
            )  # fmt: skip
        k.head[(bucket,)](
            x, tensors["head.w"], tensors["head.b"], self.logits,
            H=hidden, BLOCK=block, num_warps=warps,
        )  # fmt: skip

    def tune(self, bucket: int) -> None:
        """Choose the fastest algorithm of each product for a bucket."""
        low = self.low[:bucket]
        mixed, wide, y = self.mixed[:bucket], self.wide[:bucket], self.y[:bucket]
        tune = self.blas.tune
        self._product(0, 0, low, self.qkv[:bucket], call=tune)
        self._product(0, 1, mixed, y, add=self.x[:bucket], call=tune)
        self._product(0, 2, low, wide, activation="gelu", call=tune)
        self._product(0, 3, wide, y, add=self.x[:bucket], call=tune)

    def _product(
        self,
        layer: int,
        which: int,
        x: Any,
        out: Any,
        activation: str | None = None,
        add: Any = None,
        call: Any = None,
    ) -> None:
        bert, name = self.bert, PRODUCTS[which]
        scales = None
        if bert.fp8:
            into = bert.scales[layer, 3, 0] if which == 2 else None
            back = bert.scales[layer, which, 1]
            scales = (back, bert.weight_scales[layer, which], into)
        (call or self.blas.linear)(
            x,
            bert.tensors[f"{layer}.{name}.w"],
            bert.tensors[f"{layer}.{name}.b"],
            out,
            activation=activation,
            add=add,
            scales=scales,
        )
