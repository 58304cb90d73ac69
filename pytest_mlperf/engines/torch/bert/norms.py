"""The two LayerNorms of a layer, each with the product and the residual before it.

Either one kernel does it all, or cuBLASLt does, and then Triton's LayerNorm: which is
faster is timed for each size of a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from functools import partial
from typing import Any

from pytest_mlperf.engines.torch.bert.product_norm import NormShape
from pytest_mlperf.engines.torch.bert.product_norm import choose_joined_norms
from pytest_mlperf.engines.torch.launch_timing import find_fastest

PRODUCTS = {1: ("attention_output", "attention_norm"), 3: ("output", "output_norm")}
"""Place among a layer's products -> names of the product and of its LayerNorm."""


class ProductNorms:
    """Launches of one stream, whose ``EncoderBuffers`` are ``buffers``."""

    def __init__(self, buffers: Any) -> None:
        import torch

        encoder = buffers.encoder
        weights = encoder.weights
        shape = NormShape(
            weights.hidden_size,
            weights.intermediate_size,
            encoder.fp8,
            str(encoder.dtype).removeprefix("torch."),
            torch.cuda.get_device_capability(buffers.hidden.device),
        )
        self.inputs = {1: buffers.context, 3: buffers.intermediate}
        self.joined, self.reason = choose_joined_norms(
            shape,
            {PRODUCTS[place][0]: x for place, x in self.inputs.items()},
            encoder.tensors,
            asked=encoder.norm_kernel,
            streams=encoder.streams,
        )
        """The kernel that does it all; None, and why, where it does not run."""

    def launch(self, buffers: Any, layer: int, place: int, bucket: int) -> None:
        """Enqueue a product, its residual and its LayerNorm: into ``hidden`` again."""
        if self.joined is not None and buffers.encoder.joined_norms.get(bucket):
            self._launch_joined(buffers, layer, place, bucket)
        else:
            self._launch_apart(buffers, layer, place, bucket)

    def _launch_joined(self, buffers: Any, layer: int, place: int, bucket: int) -> None:
        assert self.joined is not None
        product, norm = PRODUCTS[place]
        encoder = buffers.encoder
        tensors, back = encoder.tensors, encoder.scales[layer, place, 1]
        self.joined.launch(
            layer, product, (back, encoder.weight_scales[layer, place]),
            tensors[f"{layer}.{product}.bias"],
            (tensors[f"{layer}.{norm}.weight"], tensors[f"{layer}.{norm}.bias"]),
            buffers.hidden[:bucket], buffers.product_input[:bucket],
            find_scale(encoder, layer, place), encoder.weights.eps,
        )  # fmt: skip

    def _launch_apart(self, buffers: Any, layer: int, place: int, bucket: int) -> None:
        _, norm = PRODUCTS[place]
        encoder = buffers.encoder
        hidden, residual = buffers.hidden[:bucket], buffers.residual[:bucket]
        buffers.multiply(
            layer, place, self.inputs[place][:bucket], residual, add=hidden
        )
        buffers.kernels.normalize[(bucket,)](
            residual, encoder.tensors[f"{layer}.{norm}.weight"],
            encoder.tensors[f"{layer}.{norm}.bias"], hidden,
            buffers.product_input[:bucket], find_scale(encoder, layer, place), bucket,
            encoder.weights.eps, FP8=encoder.fp8, **buffers.block,
        )  # fmt: skip

    def tune(self, buffers: Any, bucket: int) -> None:
        """Choose the faster way for a bucket, once for all streams."""
        chosen = buffers.encoder.joined_norms
        if self.joined is None or bucket in chosen:
            return

        def launch_both(way: Callable[..., None]) -> None:
            way(buffers, 0, 1, bucket)
            way(buffers, 0, 3, bucket)

        ways = (self._launch_apart, self._launch_joined)
        chosen[bucket] = bool(find_fastest([partial(launch_both, w) for w in ways]))


def find_scale(encoder: Any, layer: int, place: int) -> Any:
    """Return the factor into fp8 of what the LayerNorm behind a product writes."""
    if place == 1:
        return encoder.scales[layer, 2]
    return encoder.scales[min(layer + 1, len(encoder.weights.layers) - 1), 0]


def name_norms(reason: str, joined: Mapping[int, bool]) -> str:
    """Return which kernels run, for a fact.

    ``reason``: why none is joined with its product, or empty; ``joined``: tokens of a
    pass -> whether its LayerNorms are.
    """
    if reason:
        return f"Triton, {reason}"
    sizes = sorted(tokens for tokens, is_joined in joined.items() if is_joined)
    if not sizes:
        return "Triton, which is faster in every pass"
    if len(sizes) == len(joined):
        return "CUDA C++, with the product before it"
    return (
        f"CUDA C++, with the product before it, in {len(sizes)} of {len(joined)} sizes "
        f"of a pass, from {sizes[0]:,} tokens on; Triton in the others"
    )
