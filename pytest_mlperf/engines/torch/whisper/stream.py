"""A stream of Whisper: features in, two recorded graphs a batch size, tokens out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.whisper_model import FRAMES
from pytest_mlperf.api.whisper_model import WhisperModel
from pytest_mlperf.engines.torch.cuda_graph import RECORDING
from pytest_mlperf.engines.torch.cuda_graph import record_graph
from pytest_mlperf.engines.torch.cuda_source import first_line
from pytest_mlperf.engines.torch.padded import GRAPH_SIZES
from pytest_mlperf.engines.torch.padded import choose_graph_sizes
from pytest_mlperf.engines.torch.timeline import BatchEvents
from pytest_mlperf.engines.torch.whisper.decode import GreedyDecoder
from pytest_mlperf.engines.torch.whisper.network import WhisperNetwork

MEMORY_SHARE = 0.8
"""Of the device's free memory, which batches of all streams may take."""
WORK = 1.0
"""What a batch takes beside its caches, as a share of them."""


@dataclass(slots=True)
class LoadedWhisper:
    """A network on the device, and what its streams share."""

    network: WhisperNetwork
    whisper: WhisperModel
    facts: dict[str, str] = field(default_factory=dict)
    turn: Any = field(default_factory=threading.Lock)
    """Batches of several streams compute one after another, each on the whole device,
    while the host makes the features of the others."""

    def open(self) -> WhisperStream:
        return WhisperStream(self)

    def largest_batch(self, streams: int) -> int:
        """Return the samples of a batch for which all streams have memory."""
        import torch

        free, _ = torch.cuda.mem_get_info()
        network, whisper = self.network, self.whisper
        positions = FRAMES + len(whisper.prompt) + whisper.max_tokens
        values = len(network.decoder_layers) * positions * 2 * network.width
        sample = values * network.dtype.itemsize * (1 + WORK)
        return max(1, int(MEMORY_SHARE * free / streams / sample))


@dataclass(slots=True)
class RecordedDecoder:
    """A decoder, its graphs, and its memory on the host."""

    decoder: GreedyDecoder
    staged: Any
    """Pinned float32 [batch, mels, 3000]."""
    chosen: Any
    encode: Callable[[], None]
    step: Callable[[], None]


class WhisperStream:
    """One CUDA stream with its decoders; used from one thread at a time."""

    answers = False

    def __init__(self, model: LoadedWhisper) -> None:
        import torch

        self.model, self._torch = model, torch
        self.stream = torch.cuda.Stream()
        self.events = BatchEvents()
        self.timeline = self.events.timeline
        self._recorded: dict[int, RecordedDecoder] = {}
        self._pool: Any = None

    @property
    def facts(self) -> Mapping[str, str]:
        """Whether graphs were recorded."""
        return {n: text for n, text in self.model.facts.items() if n == "cuda graphs"}

    def graph_sizes(self, batch: int) -> tuple[int, ...]:
        """Return the sizes that hold batches of up to ``batch`` samples, ascending."""
        return choose_graph_sizes(batch)

    def infer(self, batch: Batch, size: int) -> Sequence[Array]:
        """Return tokens int32 [size, longest], and how many each transcript has."""
        held = min((n for n in self._recorded if n >= size), default=0)
        recorded = self._recorded[held] if held else self._record(size)
        decoder = recorded.decoder
        np.copyto(recorded.staged.numpy()[:size], batch["features"])
        with self._torch.cuda.stream(self.stream):
            self.events.start()
            decoder.features.copy_(recorded.staged, non_blocking=True)
            self.events.mark(1)
            with self.model.turn:
                decoder.run(recorded.encode, recorded.step)
                self.events.mark(2)
                self.events.events[2].synchronize()
            recorded.chosen.copy_(decoder.chosen, non_blocking=True)
            self.events.mark(3)
        self.events.finish(size)
        return decoder.read(recorded.chosen.numpy(), size)

    def _record(self, size: int) -> RecordedDecoder:
        torch, model = self._torch, self.model
        size = next((known for known in GRAPH_SIZES if known >= size), size)
        with RECORDING, torch.cuda.stream(self.stream):
            decoder = GreedyDecoder(model.network, model.whisper, size)
            staged = torch.zeros(decoder.features.shape, pin_memory=True)
            chosen = torch.zeros(
                decoder.chosen.shape, dtype=torch.int64, pin_memory=True
            )
            parts: list[Callable[[], None]] = [decoder.encode, decoder.step]
            for part in (*parts, *parts):  # libraries choose algorithms at first
                part()
            self.stream.synchronize()
            encode, step = (self._capture(part) for part in parts)
        self._recorded[size] = RecordedDecoder(decoder, staged, chosen, encode, step)
        return self._recorded[size]

    def _capture(self, part: Callable[[], None]) -> Callable[[], None]:
        """Return what replays the part, or the part where it cannot be recorded."""
        torch = self._torch
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            graph, _ = record_graph(part, self.stream, self._pool)
        except RuntimeError as error:
            self.model.facts["cuda graphs"] = f"off: {first_line(error)}"
            return part
        self.model.facts["cuda graphs"] = "encoder and decoder's step, a batch size"
        replay: Callable[[], None] = graph.replay
        return replay

    def close(self) -> None:
        """Release graphs and buffers."""
        self.stream.synchronize()
        self._recorded.clear()
        self._pool = None
        self._torch.cuda.empty_cache()
