"""Whisper's encoder, and its decoder one token at a time.

As the paper's model: layers that normalize first, an encoder of 1,500 positions, a
decoder whose layers attend to their own past and to the encoder's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.engines.torch.whisper.weights import count_layers

KEYS = 128
"""Keys that the decoder's attention kernel holds at a time."""
VOCABULARY_MULTIPLE = 64
"""The logits' matrix gets rows of zeros up to it: others are multiplied slowly."""

Get = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix [out, in] and its bias."""

    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        from torch.nn.functional import linear

        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalization."""

    weight: Any
    bias: Any

    def __call__(self, x: Any) -> Any:
        from torch.nn.functional import layer_norm

        return layer_norm(x, x.shape[-1:], self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; ``cross`` and what belongs to it is the decoder's alone."""

    norm: Norm
    query_key_value: Linear
    out: Linear
    feed_norm: Norm
    intermediate: Linear
    output: Linear
    cross_norm: Norm | None = None
    cross_query: Linear | None = None
    cross_key_value: Linear | None = None
    cross_out: Linear | None = None

    def feed_forward(self, x: Any) -> Any:
        from torch.nn.functional import gelu

        return x + self.output(gelu(self.intermediate(self.feed_norm(x))))


def _read_linear(get: Get, prefix: str, parts: Sequence[str] = ("",)) -> Linear:
    """Return projections that read the same as one; keys have no bias."""
    import torch

    names = [f"{prefix}{part}" for part in parts]
    weight = torch.cat([get(f"{name}.weight") for name in names])
    rows = len(weight) // len(names)
    biases = [
        weight.new_zeros(rows) if name.endswith("k_proj") else get(f"{name}.bias")
        for name in names
    ]
    return Linear(weight, torch.cat(biases))


def _read_norm(get: Get, name: str) -> Norm:
    return Norm(get(f"{name}.weight"), get(f"{name}.bias"))


def _read_layer(get: Get, prefix: str, *, has_cross: bool) -> Layer:
    own, cross = f"{prefix}.self_attn", f"{prefix}.encoder_attn"
    layer = (
        _read_norm(get, f"{own}_layer_norm"),
        _read_linear(get, f"{own}.", ("q_proj", "k_proj", "v_proj")),
        _read_linear(get, f"{own}.out_proj"),
        _read_norm(get, f"{prefix}.final_layer_norm"),
        _read_linear(get, f"{prefix}.fc1"),
        _read_linear(get, f"{prefix}.fc2"),
    )
    if not has_cross:
        return Layer(*layer)
    return Layer(
        *layer,
        _read_norm(get, f"{cross}_layer_norm"),
        _read_linear(get, f"{cross}.q_proj"),
        _read_linear(get, f"{cross}.", ("k_proj", "v_proj")),
        _read_linear(get, f"{cross}.out_proj"),
    )


class WhisperNetwork:
    """The weights on their device, and what is computed with them."""

    def __init__(self, weights: Mapping[str, Any], heads: int) -> None:
        import torch
        from torch.nn.functional import pad

        def get(name: str) -> Any:
            if name not in weights:
                raise BuildFailed(
                    f"the checkpoint has no {name}, but a Whisper model should; copy"
                    " the checkpoint again"
                )
            return weights[name]

        self.heads = heads
        encoder, decoder = "model.encoder", "model.decoder"
        self.convolutions = [
            (get(f"{encoder}.{name}.weight"), get(f"{encoder}.{name}.bias"))
            for name in ("conv1", "conv2")
        ]
        self.encoder_positions = get(f"{encoder}.embed_positions.weight")
        self.encoder_layers = [
            _read_layer(get, f"{encoder}.layers.{number}", has_cross=False)
            for number in range(count_layers(weights, "encoder"))
        ]
        self.encoder_norm = _read_norm(get, f"{encoder}.layer_norm")
        embeddings = get(f"{decoder}.embed_tokens.weight")
        self.vocabulary, self.width = embeddings.shape
        missing = -self.vocabulary % VOCABULARY_MULTIPLE
        self.word_embeddings = pad(embeddings, (0, 0, 0, missing))
        self.position_embeddings = get(f"{decoder}.embed_positions.weight")
        self.decoder_layers = [
            _read_layer(get, f"{decoder}.layers.{number}", has_cross=True)
            for number in range(count_layers(weights, "decoder"))
        ]
        self.decoder_norm = _read_norm(get, f"{decoder}.layer_norm")
        self.device, self.dtype = embeddings.device, embeddings.dtype
        self._frames = torch.full(
            (1,), len(self.encoder_positions), dtype=torch.int32, device=self.device
        )

    @property
    def frames(self) -> int:
        """Positions of the encoder's output."""
        return len(self.encoder_positions)

    def encode(self, features: Any, caches: Sequence[Any]) -> None:
        """Fill a cache for each layer of the decoder: [batch, frames, 2, width].

        ``features`` [batch, mels, 2 * frames].
        """
        from torch.nn.functional import conv1d
        from torch.nn.functional import gelu

        (first, first_bias), (second, second_bias) = self.convolutions
        x = gelu(conv1d(features.to(self.dtype), first, first_bias, padding=1))
        x = gelu(conv1d(x, second, second_bias, stride=2, padding=1))
        x = x.transpose(1, 2) + self.encoder_positions
        for layer in self.encoder_layers:
            x = x + layer.out(self._attend_all(layer.query_key_value(layer.norm(x))))
            x = layer.feed_forward(x)
        x = self.encoder_norm(x)
        for layer, cache in zip(self.decoder_layers, caches, strict=True):
            assert layer.cross_key_value is not None
            cache.copy_(layer.cross_key_value(x).view(cache.shape))

    def _attend_all(self, projected: Any) -> Any:
        """Return attention of every position to all: [batch, positions, width]."""
        from torch.nn.functional import scaled_dot_product_attention

        batch, positions, width = projected.shape
        split = projected.view(batch, positions, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        context = scaled_dot_product_attention(query, key, value)
        return context.transpose(1, 2).reshape(batch, positions, width // 3)

    def decode(
        self, tokens: Any, position: Any, own: Sequence[Any], cross: Sequence[Any]
    ) -> Any:
        """Return the logits [batch, vocabulary] after one token of each transcript.

        ``tokens`` int64 [batch], ``position`` int64 [1]: on the device, so that a
        recorded graph serves every position. ``own`` [batch, positions, 2, width] gets
        this position's keys and values.
        """
        from torch.nn.functional import embedding
        from torch.nn.functional import linear

        valid = (position + 1).int()
        x = embedding(tokens, self.word_embeddings)
        x = x + self.position_embeddings.index_select(0, position)
        for layer, past, heard in zip(self.decoder_layers, own, cross, strict=True):
            assert layer.cross_norm is not None, "the decoder's layers have all"
            assert layer.cross_query is not None
            assert layer.cross_out is not None
            projected = layer.query_key_value(layer.norm(x))
            new = projected[:, self.width :].view(len(x), 1, 2, self.width)
            past.index_copy_(1, position, new)
            query = projected[:, : self.width]
            x = x + layer.out(self._attend_cached(query, past, valid))
            query = layer.cross_query(layer.cross_norm(x))
            x = x + layer.cross_out(self._attend_cached(query, heard, self._frames))
            x = layer.feed_forward(x)
        logits = linear(self.decoder_norm(x), self.word_embeddings)
        return logits[:, : self.vocabulary]

    def _attend_cached(self, query: Any, cache: Any, valid: Any) -> Any:
        """Return attention of one query a sample to the first keys: [batch, width]."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        batch, length = cache.shape[:2]
        size = self.width // self.heads
        if query.device.type == "cuda":
            from pytest_mlperf.engines.torch.whisper import kernels

            out = torch.empty(batch, self.width, dtype=query.dtype, device=query.device)
            kernels.attend_one[(batch, self.heads)](
                query, cache, out, valid, query.stride(0), length,
                math.log2(math.e) / math.sqrt(size),
                WIDTH=self.width, D=size, N=KEYS,
            )  # fmt: skip
            return out
        split = cache.view(batch, length, 2, self.heads, size)
        key, value = split.permute(2, 0, 3, 1, 4)
        inside = (torch.arange(length, device=query.device) < valid)[None]
        context = scaled_dot_product_attention(
            query.reshape(batch, self.heads, 1, size), key, value, attn_mask=inside
        )
        return context.reshape(batch, self.width)
