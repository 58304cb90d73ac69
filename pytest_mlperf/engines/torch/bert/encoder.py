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

from pytest_mlperf.engines.torch.bert.attention import LEAST_TOKENS
from pytest_mlperf.engines.torch.bert.attention import choose_attention
from pytest_mlperf.engines.torch.bert.attention import name_kernels
from pytest_mlperf.engines.torch.bert.norms import ProductNorms
from pytest_mlperf.engines.torch.packing import BLOCK_QUERIES
from pytest_mlperf.engines.torch.packing import block_capacity
from pytest_mlperf.engines.torch.packing import find_sequences
from pytest_mlperf.engines.torch.packing import flat_size

PRODUCTS = ("qkv", "attention_output", "intermediate", "output")
SITES = ("hidden", "context", "attention_output", "intermediate", "qkv")
"""What is quantized in each layer: the input of each of its four products, and what the
attention reads."""
FP8_MAX = 448.0
SCALE_STRIDE = 4
"""Floats from one scale to the next: the library wants them 16 bytes apart."""
HEADROOM = 2.0
"""Calibrated maxima are multiplied by this, which costs a floating-point format
nothing; larger values saturate."""
LEAST_BLOCK, LEAST_FP8_BLOCK = 16, 32
"""A matrix unit takes no fewer numbers of a head at a time."""

Observe = Callable[[int, str, Any], None]
"""(layer, site, values): sees the activations of a pass."""


@dataclass(slots=True)
class BertWeights:
    """Float32 arrays, matrices as [out, in]; ``layers`` has ``PRODUCTS`` and the norms
    ``attention_norm`` and ``output_norm`` by name, each as (weight, bias).
    """

    word_embeddings: Any
    position_embeddings: Any
    token_type_embeddings: Any
    embedding_norm: tuple[Any, Any]
    layers: list[dict[str, tuple[Any, Any]]]
    qa_outputs: tuple[Any, Any]
    heads: int
    eps: float

    @property
    def hidden_size(self) -> int:
        return int(self.word_embeddings.shape[1])

    @property
    def intermediate_size(self) -> int:
        return int(self.layers[0]["intermediate"][0].shape[0])


@dataclass(slots=True)
class BertEncoder:
    """Weights on the device, shared by its streams."""

    weights: BertWeights
    dtype: Any
    fp8: bool
    device: Any
    fp8_attention: bool = True
    """In fp8, whether queries, keys and values are too. Probabilities never are."""
    attention_kernel: str = "cuda"
    """The option of this name: ``triton`` where Hopper's kernel is not to run."""
    norm_kernel: str = "cuda"
    """The same of the LayerNorms behind products."""
    joined_norms: dict[int, bool] = field(default_factory=dict)
    """Tokens of a pass -> whether those run faster with their products."""
    streams: int = 0
    """That are open."""
    tensors: dict[str, Any] = field(default_factory=dict)
    scales: Any = None
    """float32 [layer, site, 2, SCALE_STRIDE]: the factor into fp8 and the one back."""
    weight_scales: Any = None
    """float32 [layer, product, SCALE_STRIDE]: the factor back."""

    def __post_init__(self) -> None:
        import numpy as np
        import torch

        def put(name: str, array: Any, dtype: Any) -> None:
            host = torch.from_numpy(np.ascontiguousarray(array))
            self.tensors[name] = host.to(self.device).to(dtype)

        weights = self.weights
        for name in ("word", "position", "token_type"):
            table = f"{name}_embeddings"
            put(table, getattr(weights, table), self.dtype)
        for name in ("embedding_norm", "qa_outputs"):
            weight, bias = getattr(weights, name)
            put(f"{name}.weight", weight, torch.float32)
            put(f"{name}.bias", bias, torch.float32)
        count, device = len(weights.layers), self.device
        self.scales = torch.ones(count, len(SITES), 2, SCALE_STRIDE, device=device)
        self.weight_scales = torch.ones(
            count, len(PRODUCTS), SCALE_STRIDE, device=device
        )
        for number, layer in enumerate(weights.layers):
            for name, (weight, bias) in layer.items():
                dtype = self.dtype if name in PRODUCTS else torch.float32
                put(f"{number}.{name}.weight", weight, dtype)
                put(f"{number}.{name}.bias", bias, dtype)

    def quantize(self, maxima: Any) -> None:
        """Turn the weights to fp8 and fix the activations' scales.

        ``maxima``: float32 [layer, site], the largest magnitudes seen.
        """
        import torch

        factor = FP8_MAX / (maxima.clamp(min=1e-6) * HEADROOM)
        pairs = torch.stack([factor, 1 / factor], -1)
        self.scales = pairs[..., None].expand(-1, -1, -1, SCALE_STRIDE).contiguous()
        for number in range(len(self.weights.layers)):
            for product, name in enumerate(PRODUCTS):
                weight = self.tensors[f"{number}.{name}.weight"].float()
                scale = weight.abs().amax() / FP8_MAX
                self.weight_scales[number, product] = scale
                low = (weight / scale).to(torch.float8_e4m3fn)
                self.tensors[f"{number}.{name}.weight"] = low
        self.fp8 = True


class EncoderBuffers:
    """Buffers and launches of one stream."""

    def __init__(self, encoder: BertEncoder, max_tokens: int, blas: Any) -> None:
        import torch

        from pytest_mlperf.engines.torch.bert import kernels

        self.encoder, self.blas, self.kernels = encoder, blas, kernels
        weights, dtype, device = encoder.weights, encoder.dtype, encoder.device
        fp8 = torch.float8_e4m3fn

        def allocate(columns: int, dtype: Any) -> Any:
            # Zeros: a bucket's unused rows are computed too, and must stay finite.
            return torch.zeros(max_tokens, columns, dtype=dtype, device=device)

        size, input_dtype = weights.hidden_size, fp8 if encoder.fp8 else dtype
        self.hidden, self.residual = allocate(size, dtype), allocate(size, dtype)
        self.qkv_fp8 = encoder.fp8 and encoder.fp8_attention
        self.qkv = allocate(3 * size, fp8 if self.qkv_fp8 else dtype)
        self.context = allocate(size, input_dtype)
        self.intermediate = allocate(weights.intermediate_size, input_dtype)
        self.product_input = allocate(size, fp8) if encoder.fp8 else self.hidden
        """``hidden`` as products read it: a copy in fp8, or itself."""
        self.logits = allocate(2, torch.float32)
        flat = flat_size(max_tokens)
        self.flat = torch.zeros(flat, dtype=torch.int32, device=device)
        self.attention, reason = choose_attention(
            self.qkv,
            weights.heads,
            len(weights.position_embeddings),
            fp8=encoder.fp8,
            asked=encoder.attention_kernel,
        )
        """Hopper's kernel; None where Triton's runs alone."""
        self.attention_by = name_kernels(reason)
        block = 1 << (size - 1).bit_length()
        self.block = {"H": size, "BLOCK": block, "num_warps": 4 if block >= 512 else 1}
        """How Triton's kernels take a row."""
        self.norms = ProductNorms(self)
        """The LayerNorms behind products, with those products."""

    def launch(self, bucket: int, observe: Observe | None = None) -> None:
        """Enqueue one pass over ``flat`` into ``logits`` on the current stream."""
        encoder, k = self.encoder, self.kernels
        weights, tensors, scales = encoder.weights, encoder.tensors, encoder.scales
        hidden = self.hidden[:bucket]
        qkv, context = self.qkv[:bucket], self.context[:bucket]
        intermediate = self.intermediate[:bucket]
        product_input = self.product_input[:bucket]
        k.embed[(bucket,)](
            self.flat, tensors["word_embeddings"], tensors["position_embeddings"],
            tensors["token_type_embeddings"], tensors["embedding_norm.weight"],
            tensors["embedding_norm.bias"], hidden, product_input, scales[0, 0], bucket,
            weights.eps, FP8=encoder.fp8, **self.block,
        )  # fmt: skip
        for n in range(len(weights.layers)):
            if observe:
                observe(n, "hidden", hidden)
            self.multiply(n, 0, product_input, qkv)
            if observe:
                observe(n, "qkv", qkv)
            self._attend(n, bucket)
            if observe:
                observe(n, "context", context)
            self.norms.launch(self, n, 1, bucket)
            if observe:
                observe(n, "attention_output", hidden)
            self.multiply(n, 2, product_input, intermediate, activation="gelu")
            if observe:
                observe(n, "intermediate", intermediate)
            self.norms.launch(self, n, 3, bucket)
        k.qa_logits[(bucket,)](
            hidden, tensors["qa_outputs.weight"], tensors["qa_outputs.bias"],
            self.logits, **self.block,
        )  # fmt: skip

    def _attend(self, layer: int, bucket: int) -> None:
        """Enqueue a layer's attention: ``qkv`` into ``context``."""
        encoder, context = self.encoder, self.context[:bucket]
        heads, size = encoder.weights.heads, encoder.weights.hidden_size
        head_size, capacity = size // heads, block_capacity(bucket)
        least = LEAST_FP8_BLOCK if self.qkv_fp8 else LEAST_BLOCK
        softmax_scale = math.log2(math.e) / math.sqrt(head_size)
        into, back = encoder.scales[layer, 1], encoder.scales[layer, 4, 1]
        if self.attention and bucket >= LEAST_TOKENS:
            sequences = self.flat[find_sequences(bucket) :]
            self.attention.launch(context, into, sequences, capacity, softmax_scale)
            return
        self.kernels.attend[(heads, capacity)](
            self.qkv, context, context, into, back, self.flat[3 * bucket :],
            softmax_scale, H=size, D=head_size,
            BLOCK=max(least, 1 << (head_size - 1).bit_length()), M=BLOCK_QUERIES, N=32,
            FP8=encoder.fp8, QKV_FP8=self.qkv_fp8, num_warps=4, num_stages=3,
        )  # fmt: skip

    def tune(self, bucket: int) -> None:
        """Choose the fastest algorithm of each product for a bucket."""
        hidden, product_input = self.hidden[:bucket], self.product_input[:bucket]
        context, residual = self.context[:bucket], self.residual[:bucket]
        intermediate, tune = self.intermediate[:bucket], self.blas.tune
        self.multiply(0, 0, product_input, self.qkv[:bucket], call=tune)
        self.multiply(0, 1, context, residual, add=hidden, call=tune)
        self.multiply(0, 2, product_input, intermediate, activation="gelu", call=tune)
        self.multiply(0, 3, intermediate, residual, add=hidden, call=tune)
        self.norms.tune(self, bucket)

    def multiply(
        self,
        layer: int,
        product: int,
        x: Any,
        out: Any,
        activation: str | None = None,
        add: Any = None,
        call: Any = None,
    ) -> None:
        """Enqueue a product with its bias, its activation and what is added."""
        encoder, name = self.encoder, PRODUCTS[product]
        scales = None
        if encoder.fp8:
            site = {"intermediate": 3, "qkv": 4}.get(name)
            into = None if site is None else encoder.scales[layer, site, 0]
            back = encoder.scales[layer, product, 1]
            scales = (back, encoder.weight_scales[layer, product], into)
        (call or self.blas.linear)(
            x,
            encoder.tensors[f"{layer}.{name}.weight"],
            encoder.tensors[f"{layer}.{name}.bias"],
            out,
            activation=activation,
            add=add,
            scales=scales,
        )
