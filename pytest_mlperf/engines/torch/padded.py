"""A stream of any graph: padded batches, and for fixed shapes one CUDA graph a size."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.torch import device_samples as resident
from pytest_mlperf.engines.torch.host_fetch import INDICES
from pytest_mlperf.engines.torch.host_fetch import LIBRARY
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.timeline import Marks

GRAPH_SIZES = (
    1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 384, 512,
)  # fmt: skip
"""Batch sizes that are recorded; a batch runs in the smallest that holds it."""
RECORDING = threading.Lock()
"""Streams record one after another: who begins to record waits for the whole device,
and that spoils what another thread is recording.
"""


@dataclass(slots=True)
class PaddedModel:
    """A program on the device, and what its streams share."""

    program: Program
    fixed: bool
    """True when only the batch varies: CUDA graphs can be recorded."""
    facts: dict[str, str] = field(default_factory=dict)
    in_turn: bool = True
    """Batches of several streams compute one after another, each on the whole device:
    the first one is done sooner, and the last one no later."""
    _compute: Any = None
    _turn: Any = field(default_factory=threading.Lock)

    def open(self, *, ends: bool = False) -> PaddedStream:
        return PaddedStream(self, ends=ends)

    def store(self) -> resident.Rows:
        """Return where samples are kept on the device."""
        return resident.Rows()

    def replay(self, graph: Any, marks: Marks, stream: Any) -> None:
        """Enqueue a recorded batch between two marks of its stream."""
        import torch

        if not self.in_turn:
            graph.replay()
            marks.mark(2)
            return
        with self._turn:
            self._compute = self._compute or torch.cuda.Stream()
            self._compute.wait_event(marks.events[1])
            with torch.cuda.stream(self._compute):
                graph.replay()
                marks.mark(2)
        stream.wait_event(marks.events[2])


@dataclass(slots=True)
class Slot:
    """Memory of one batch size: pinned in, on the device, pinned out."""

    staged: dict[str, Any]
    inputs: dict[str, Any]
    outputs: list[Any]
    results: list[Any]
    graph: Any = None


class PaddedStream:
    """One CUDA stream with its buffers; used from one thread at a time."""

    answers = False

    def __init__(self, model: PaddedModel, *, ends: bool = False) -> None:
        import torch

        self.ends_on_device = ends
        self.model, self._torch = model, torch
        self.stream = torch.cuda.Stream()
        self.marks = Marks()
        self.timeline = self.marks.timeline
        self._slots: dict[int, Slot] = {}
        self._pool: Any = None

    def gather_from(self, dataset: Any) -> Any:
        """Let the device fetch samples that lie in arrays; None where they do not."""
        arrays = getattr(dataset, "arrays", None)
        if arrays is None or not self.model.fixed:
            return None
        if not LIBRARY.hold(arrays):
            return None

        def chosen(indices: list[int]) -> Batch:
            return {INDICES: np.array(indices, np.int32)}

        return chosen

    def infer(self, batch: Batch, size: int) -> list[Array] | resident.Outputs:
        there = resident.picked(batch)
        chosen = batch.get(INDICES)
        if not self.model.fixed or size > GRAPH_SIZES[-1]:
            if chosen is not None:
                batch = {name: a[chosen] for name, a in LIBRARY.arrays.items()}
            return self._eager(batch, size)
        spot = next(s for s in GRAPH_SIZES if s >= size)
        if chosen is not None:
            batch = LIBRARY.arrays
        if there is not None:
            batch = there.store.sample
        slot = self._slots.get(spot) or self._prepare(batch, spot)
        if chosen is None and there is None:
            for name in slot.inputs:
                np.copyto(slot.staged[name].numpy()[:size], batch[name])
        with self._torch.cuda.stream(self.stream):
            self.marks.start()
            if there is not None:
                there.store.fetch(there.rows, slot.inputs)
            elif chosen is not None:
                LIBRARY.fetch(chosen, slot.inputs, self.stream.cuda_stream)
            else:
                for name, place in slot.inputs.items():
                    place.copy_(slot.staged[name], non_blocking=True)
            self.marks.mark(1)
            outputs = slot.outputs
            if slot.graph is None:
                outputs = self.model.program.run(slot.inputs)
                self.marks.mark(2)
            else:
                self.model.replay(slot.graph, self.marks, self.stream)
            if not self.ends_on_device:
                for result, output in zip(slot.results, outputs, strict=True):
                    result.copy_(output, non_blocking=True)
            self.marks.mark(3)
        self.marks.finish(size)
        if self.ends_on_device:
            return resident.Outputs(outputs, size)
        return [result.numpy()[:size] for result in slot.results]

    def _prepare(self, batch: Batch, spot: int) -> Slot:
        """Make slots for this size and the smaller ones: later batches vary."""
        with RECORDING:
            for size in GRAPH_SIZES:
                if size <= spot and size not in self._slots:
                    self._slots[size] = self._slot(batch, size)
        return self._slots[spot]

    def _slot(self, batch: Batch, size: int) -> Slot:
        torch, run = self._torch, self.model.program.run
        staged, inputs = {}, {}
        with torch.cuda.stream(self.stream):
            for name, array in batch.items():
                kind = torch.from_numpy(array[:1]).dtype
                shape = (size, *array.shape[1:])
                staged[name] = torch.zeros(shape, dtype=kind, pin_memory=True)
                inputs[name] = torch.zeros(shape, dtype=kind, device="cuda")
            slot = Slot(staged, inputs, run(inputs), [])
            run(inputs)  # twice: libraries choose their algorithms in the first ones
            self.stream.synchronize()
            try:
                graph = torch.cuda.CUDAGraph()
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self.stream,
                    capture_error_mode="thread_local",
                ):
                    slot.outputs = [o.float() for o in run(inputs)]
                slot.graph = graph
                said = "one a batch size"
            except (RuntimeError, BuildFailed) as error:
                said = f"off: {str(error).splitlines()[0]}"
            self.model.facts["cuda graphs"] = said
            slot.results = [
                torch.zeros(o.shape, dtype=torch.float32, pin_memory=True)
                for o in slot.outputs
            ]
        return slot

    def _eager(self, batch: Batch, size: int) -> list[Array] | resident.Outputs:
        torch, there = self._torch, resident.picked(batch)
        with torch.cuda.stream(self.stream):
            self.marks.start()
            if there is None:
                feeds = {
                    name: torch.from_numpy(array).pin_memory().cuda(non_blocking=True)
                    for name, array in batch.items()
                }
            else:
                feeds = {
                    name: torch.empty((size, *array.shape[1:]), dtype=array.dtype,
                                      device="cuda")
                    for name, array in there.store.arrays.items()
                }  # fmt: skip
                there.store.fetch(there.rows, feeds)
            self.marks.mark(1)
            outputs = self.model.program.run(feeds)
            self.marks.mark(2)
            if self.ends_on_device:
                self.marks.mark(3)
                self.marks.finish(size)
                return resident.Outputs(outputs, size)
            results = [o.float().to("cpu", non_blocking=True) for o in outputs]
            self.marks.mark(3)
        self.marks.finish(size)
        return [result.numpy() for result in results]

    def close(self) -> None:
        """Let go of graphs and buffers."""
        self.stream.synchronize()
        self._slots.clear()
        self._pool = None


def tensors_of(model: PaddedModel) -> Mapping[str, Any]:
    """Return what should be on the device, for the check that it is."""
    return {
        name: value
        for name, value in model.program.values.items()
        if value.is_floating_point() and value.ndim
    }
