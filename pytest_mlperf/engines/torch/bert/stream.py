"""A stream of the packed encoder: batches in, logits out, one CUDA graph a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch import packing
from pytest_mlperf.engines.torch.bert.encoder import SITES
from pytest_mlperf.engines.torch.bert.encoder import BertEncoder
from pytest_mlperf.engines.torch.bert.encoder import EncoderBuffers
from pytest_mlperf.engines.torch.bert.encoder import Observe
from pytest_mlperf.engines.torch.bert.norms import name_norms
from pytest_mlperf.engines.torch.cublaslt import CublasLt
from pytest_mlperf.engines.torch.cuda_graph import record_graph
from pytest_mlperf.engines.torch.cuda_source import first_line
from pytest_mlperf.engines.torch.device_samples import TokenStore
from pytest_mlperf.engines.torch.device_samples import as_picked
from pytest_mlperf.engines.torch.device_samples import make_mask
from pytest_mlperf.engines.torch.timeline import BatchEvents

MAX_TOKENS = 16896
"""Tokens of one pass: a product's tile of 128 rows for each of an H100's 132
multiprocessors. More gains nothing."""
CALIBRATION_TOKENS = 4096


@dataclass(slots=True)
class PackedModel:
    """An encoder on the device, and what its streams share."""

    encoder: BertEncoder
    names: tuple[str, str, str]
    """The batch's arrays: ids, mask, token types."""
    max_tokens: int = MAX_TOKENS
    choices: dict[Any, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def open(self) -> PackedStream:
        self.encoder.streams += 1
        return PackedStream(self)

    def store(self) -> TokenStore:
        """Return a store for samples on the device."""
        return TokenStore(self.names)

    def calibrate(self) -> None:
        """Find the activations' ranges on random tokens, and turn to fp8.

        This reads no sample of any dataset. A floating-point format needs its scale to
        the nearest power of two or so, which random tokens give.
        """
        import torch

        stream, encoder = PackedStream(self, prepare=False), self.encoder
        layers = len(encoder.weights.layers)
        maxima = torch.zeros(layers, len(SITES), device=encoder.device)

        def observe(layer: int, site: str, values: Any) -> None:
            place = SITES.index(site)
            largest = values[:CALIBRATION_TOKENS].abs().max().float()
            maxima[layer, place] = torch.maximum(maxima[layer, place], largest)

        random = np.random.default_rng(7)
        length = min(256, len(encoder.weights.position_embeddings))
        shape = (CALIBRATION_TOKENS // length, length)
        ids = random.integers(0, len(encoder.weights.word_embeddings), shape)
        mask = np.ones(shape, np.int64)
        token_types = np.zeros(shape, np.int64) + (np.arange(length) > length // 10)
        batch = dict(zip(self.names, (ids, mask, token_types), strict=True))
        stream.infer(batch, shape[0], observe)
        encoder.quantize(maxima)
        self.facts["calibration"] = f"{CALIBRATION_TOKENS} random tokens"


class PackedStream:
    """One CUDA stream with its buffers; used from one thread at a time."""

    answers = False

    def __init__(self, model: PackedModel, *, prepare: bool = True) -> None:
        import torch

        self.model, self._torch = model, torch
        self.stream = torch.cuda.Stream()
        self.events = BatchEvents()
        self.timeline = self.events.timeline
        with torch.cuda.stream(self.stream):
            blas = CublasLt(model.encoder.device, model.choices)
            self.buffers = EncoderBuffers(model.encoder, model.max_tokens, blas)
        self.buckets = packing.choose_buckets(model.max_tokens)
        self._staging: list[tuple[Any, Any, Any]] = []
        self._graphs: dict[int, Any] = {}
        if prepare:
            self._prepare()

    def _prepare(self) -> None:
        """Choose algorithms and record a CUDA graph for every bucket."""
        torch, buffers = self._torch, self.buffers
        with torch.cuda.stream(self.stream):
            for bucket in self.buckets:
                buffers.tune(bucket)
                buffers.launch(bucket)  # compiles kernels, before a graph may record
            self.stream.synchronize()
            try:
                for bucket in self.buckets:
                    launch = partial(buffers.launch, bucket)
                    self._graphs[bucket], _ = record_graph(launch, self.stream)
                report = f"{len(self._graphs)} buckets"
            except RuntimeError as error:
                self._graphs.clear()
                report = f"off: {first_line(error)}"
        self.model.facts["cuda graphs"] = report
        self.model.facts["attention by"] = buffers.attention_by
        self.model.facts["LayerNorm by"] = name_norms(
            buffers.norms.reason, self.model.encoder.joined_norms
        )

    def infer(
        self, batch: Batch, size: int, observe: Observe | None = None
    ) -> tuple[Array, Array]:
        """Return start and end logits, float32 [size, width] each."""
        on_device = as_picked(batch)
        if on_device is None:
            ids, mask, token_types = (batch[name] for name in self.model.names)
            lengths = mask.sum(axis=1, dtype=np.int32)
        else:
            lengths = on_device.store.lengths[on_device.rows]
            mask = make_mask(lengths)
        chunks = packing.cut_chunks(lengths, self.model.max_tokens)
        with self._torch.cuda.stream(self.stream):
            for number, chunk in enumerate(chunks):
                rows = slice(chunk.start, chunk.end)
                bucket = packing.find_bucket(chunk, self.buckets)
                staged, numbers, results = self._stage(number)
                if on_device is None:
                    packing.lay_out(
                        ids[rows], mask[rows], token_types[rows], lengths[rows],
                        numbers, bucket,
                    )  # fmt: skip
                if not number:
                    self.events.start()
                if on_device is None:
                    flat = packing.flat_size(bucket)
                    self.buffers.flat[:flat].copy_(staged[:flat], non_blocking=True)
                else:
                    on_device.store.lay_out(
                        on_device.rows[rows], staged, numbers, self.buffers.flat, bucket
                    )
                if not number:
                    self.events.mark(1)
                graph = None if observe else self._graphs.get(bucket)
                if graph is None:
                    self.buffers.launch(bucket, observe)
                else:
                    graph.replay()
                if number == len(chunks) - 1:
                    self.events.mark(2)
                logits = self.buffers.logits[: chunk.tokens]
                results[: chunk.tokens].copy_(logits, non_blocking=True)
            self.events.mark(3)
        self.events.finish(size)
        parts = [
            results[: chunk.tokens].numpy()
            for chunk, (_, _, results) in zip(chunks, self._staging, strict=False)
        ]
        packed = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return packing.unpack(packed, mask)

    def _stage(self, number: int) -> tuple[Any, Any, Any]:
        """Return a chunk's pinned memory: numbers in (as tensor and array), logits."""
        torch = self._torch
        while len(self._staging) <= number:
            most = self.model.max_tokens
            staged = torch.zeros(
                packing.flat_size(most), dtype=torch.int32, pin_memory=True
            )
            results = torch.zeros(most, 2, dtype=torch.float32, pin_memory=True)
            self._staging.append((staged, staged.numpy(), results))
        return self._staging[number]

    def close(self) -> None:
        """Release graphs and buffers."""
        self.stream.synchronize()
        self._graphs.clear()
        self._staging.clear()
        del self.buffers
        self.model.encoder.streams -= 1


def tensors_of(model: PackedModel) -> Mapping[str, Any]:
    """Return the weights that must be on the device."""
    return model.encoder.tensors
