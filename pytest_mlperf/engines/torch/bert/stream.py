"""A stream of the packed encoder: batches in, logits out, one CUDA graph a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch import device_samples as resident
from pytest_mlperf.engines.torch import packing as packing
from pytest_mlperf.engines.torch.bert.encoder import SITES
from pytest_mlperf.engines.torch.bert.encoder import Bert
from pytest_mlperf.engines.torch.bert.encoder import BertStream
from pytest_mlperf.engines.torch.cublaslt import Blas
from pytest_mlperf.engines.torch.timeline import Marks

MOST_TOKENS = 16384
"""Tokens of one pass: enough to fill the device; more gains nothing."""
CALIBRATION_TOKENS = 4096


@dataclass(slots=True)
class PackedModel:
    """An encoder on the device, and what its streams share."""

    bert: Bert
    names: tuple[str, str, str]
    """The batch's arrays: ids, mask, kinds."""
    most: int = MOST_TOKENS
    choices: dict[Any, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def open(self) -> PackedStream:
        return PackedStream(self)

    def store(self) -> resident.Tokens:
        """Return where samples are kept on the device."""
        return resident.Tokens(self.names)

    def calibrate(self) -> None:
        """Find activations' ranges on random tokens, and turn to fp8.

        No sample of any dataset is looked at. A floating-point format needs its scale
        to the nearest power of two or so, which random tokens give.
        """
        import torch

        stream = PackedStream(self, prepare=False)
        layers = len(self.bert.shape.layers)
        maxima = torch.zeros(layers, len(SITES), device=self.bert.device)

        def observe(layer: int, site: str, values: Any) -> None:
            place = SITES.index(site)
            top = values[:CALIBRATION_TOKENS].abs().max().float()
            maxima[layer, place] = torch.maximum(maxima[layer, place], top)

        random = np.random.default_rng(7)
        length = min(256, len(self.bert.shape.places))
        shape = (CALIBRATION_TOKENS // length, length)
        words = len(self.bert.shape.words)
        batch = dict(
            zip(
                self.names,
                (
                    random.integers(0, words, shape),
                    np.ones(shape, np.int64),
                    np.zeros(shape, np.int64) + (np.arange(length) > length // 10),
                ),
                strict=True,
            )
        )
        stream.infer(batch, shape[0], observe)
        self.bert.quantise(maxima)
        self.facts["calibration"] = f"{CALIBRATION_TOKENS} random tokens"


class PackedStream:
    """One CUDA stream with its buffers; used from one thread at a time."""

    answers = False

    def __init__(self, model: PackedModel, *, prepare: bool = True) -> None:
        import torch

        self.model, self._torch = model, torch
        self.stream = torch.cuda.Stream()
        self.marks = Marks()
        self.timeline = self.marks.timeline
        with torch.cuda.stream(self.stream):
            blas = Blas(model.bert.device, model.choices)
            self.device = BertStream(model.bert, model.most, blas)
        self.prepared = packing.buckets(model.most)
        self._slots: list[tuple[Any, Any, Any]] = []
        self._graphs: dict[int, Any] = {}
        if prepare:
            self._prepare()

    def _prepare(self) -> None:
        """Choose algorithms and record a CUDA graph for every bucket."""
        torch, device = self._torch, self.device
        with torch.cuda.stream(self.stream):
            for bucket in self.prepared:
                device.tune(bucket)
                device.launch(bucket)  # compiles kernels, before a graph may record
            self.stream.synchronize()
            try:
                for bucket in self.prepared:
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(
                        graph, stream=self.stream, capture_error_mode="thread_local"
                    ):
                        device.launch(bucket)
                    self._graphs[bucket] = graph
                said = f"{len(self._graphs)} buckets"
            except RuntimeError as error:
                self._graphs.clear()
                said = f"off: {str(error).splitlines()[0]}"
        self.model.facts["cuda graphs"] = said

    def infer(
        self, batch: Batch, size: int, observe: Any = None
    ) -> tuple[Array, Array]:
        """Return start and end logits, float32 [size, width] each."""
        there = resident.picked(batch)
        if there is None:
            ids, mask, kinds = (batch[name] for name in self.model.names)
            lengths = mask.sum(axis=1, dtype=np.int32)
        else:
            lengths = there.store.lengths[there.rows]
            mask = resident.mask_of(lengths)
        parts = packing.chunks(lengths, self.model.most)
        with self._torch.cuda.stream(self.stream):
            for number, part in enumerate(parts):
                rows = slice(part.start, part.end)
                bucket = packing.bucket_for(part, self.prepared)
                staged, numbers, results = self._slot(number)
                if there is None:
                    packing.lay_out(
                        ids[rows], mask[rows], kinds[rows], lengths[rows], numbers,
                        bucket,
                    )  # fmt: skip
                if not number:
                    self.marks.start()
                if there is None:
                    flat = packing.flat_size(bucket)
                    self.device.flat[:flat].copy_(staged[:flat], non_blocking=True)
                else:
                    there.store.lay_out(
                        there.rows[rows], staged, numbers, self.device.flat, bucket
                    )
                if not number:
                    self.marks.mark(1)
                graph = None if observe else self._graphs.get(bucket)
                if graph is None:
                    self.device.launch(bucket, observe)
                else:
                    graph.replay()
                if number == len(parts) - 1:
                    self.marks.mark(2)
                logits = self.device.logits[: part.tokens]
                results[: part.tokens].copy_(logits, non_blocking=True)
            self.marks.mark(3)
        self.marks.finish(size)
        found = [
            results[: part.tokens].numpy()
            for part, (_, _, results) in zip(parts, self._slots, strict=False)
        ]
        packed = found[0] if len(found) == 1 else np.concatenate(found)
        return packing.unpack(packed, mask)

    def _slot(self, number: int) -> tuple[Any, Any, Any]:
        """Return a chunk's pinned memory: numbers in (as tensor and array), logits."""
        torch = self._torch
        while len(self._slots) <= number:
            most = self.model.most
            staged = torch.zeros(
                packing.flat_size(most), dtype=torch.int32, pin_memory=True
            )
            results = torch.zeros(most, 2, dtype=torch.float32, pin_memory=True)
            self._slots.append((staged, staged.numpy(), results))
        return self._slots[number]

    def close(self) -> None:
        """Let go of graphs and buffers."""
        self.stream.synchronize()
        self._graphs.clear()
        self._slots.clear()
        del self.device


def tensors_of(model: PackedModel) -> Mapping[str, Any]:
    """Return what should be on the device, for the check that it is."""
    return model.bert.tensors
