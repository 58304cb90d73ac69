"""A stream of any graph: padded batches, and for fixed shapes one CUDA graph a size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.samples import Responses
from pytest_mlperf.api.window_blending import BlendsWindows
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.engines.torch.cuda_graph import RECORDING
from pytest_mlperf.engines.torch.cuda_graph import record_graph
from pytest_mlperf.engines.torch.cuda_source import first_line
from pytest_mlperf.engines.torch.device_samples import RowStore
from pytest_mlperf.engines.torch.device_samples import TorchOutputs
from pytest_mlperf.engines.torch.device_samples import as_picked
from pytest_mlperf.engines.torch.host_fetch import INDICES
from pytest_mlperf.engines.torch.host_fetch import REGISTERED
from pytest_mlperf.engines.torch.onnx_graph import Program
from pytest_mlperf.engines.torch.timeline import BatchEvents
from pytest_mlperf.engines.torch.volumes.window_blender import VolumeRunner

GRAPH_SIZES = (
    *(1, 2, 4), *range(8, 128, 8), *range(128, 257, 16), *(320, 384, 512, 768, 1024),
)  # fmt: skip
"""Batch sizes that are recorded when they are asked for; a batch runs in the smallest
recorded one that holds it."""


def choose_graph_sizes(batch: int) -> tuple[int, ...]:
    """Return the sizes that hold batches of up to ``batch`` samples, ascending."""
    larger = [size for size in GRAPH_SIZES if size >= batch]
    return (*(size for size in GRAPH_SIZES if size < batch), *larger[:1])


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

    def open(self, *, ends_on_device: bool = False) -> PaddedStream:
        return PaddedStream(self, ends_on_device=ends_on_device)

    def store(self) -> RowStore:
        """Return a store for samples on the device."""
        return RowStore()

    def replay(self, graph: Any, events: BatchEvents, stream: Any) -> None:
        """Enqueue a recorded batch between two events of its stream."""
        import torch

        if not self.in_turn:
            graph.replay()
            events.mark(2)
            return
        with self._turn:
            self._compute = self._compute or torch.cuda.Stream()
            self._compute.wait_event(events.events[1])
            with torch.cuda.stream(self._compute):
                graph.replay()
                events.mark(2)
        stream.wait_event(events.events[2])


@dataclass(slots=True)
class BatchBuffers:
    """Memory of one batch size: pinned in, on the device, pinned out."""

    staged: dict[str, Any]
    inputs: dict[str, Any]
    outputs: list[Any]
    results: list[Any]
    graph: Any = None


class PaddedStream:
    """One CUDA stream with its buffers; used from one thread at a time."""

    answers = False

    def __init__(self, model: PaddedModel, *, ends_on_device: bool = False) -> None:
        import torch

        self.ends_on_device = ends_on_device
        self.model, self._torch = model, torch
        self.stream = torch.cuda.Stream()
        self.events = BatchEvents()
        self.timeline = self.events.timeline
        self._buffers: dict[int, BatchBuffers] = {}
        self._pool: Any = None
        self._runner: VolumeRunner | None = None

    def current(self) -> Any:
        """Return the context in which calls are enqueued on this stream."""
        return self._torch.cuda.stream(self.stream)

    def runner_for(
        self, workload: RunsModel
    ) -> Callable[[Sequence[int]], Responses] | None:
        """Keep the windows of volumes on the device; None for any other workload."""
        if not isinstance(workload, BlendsWindows) or not self.model.fixed:
            return None
        if self._runner is None or self._runner.workload is not workload:
            self._runner = VolumeRunner(self, workload)
        return self._runner

    def run_filled(
        self, sample: Batch, fill: Callable[[Any], None], size: int
    ) -> Sequence[Any]:
        """Enqueue a run whose one input is made on the device.

        ``sample`` has the shape of a row; ``fill`` gets the tensor [rows, …]. Returns
        tensors that the next run overwrites.
        """
        recorded = min((n for n in self._buffers if n >= size), default=0)
        buffers = self._buffers[recorded] if recorded else self._record(sample, size)
        (held,) = buffers.inputs.values()
        fill(held)
        if buffers.graph is None:
            return self.model.program.run(buffers.inputs)
        buffers.graph.replay()
        return buffers.outputs

    def gather_from(self, dataset: Dataset) -> Callable[[Sequence[int]], Batch] | None:
        """Let the device fetch samples of an array dataset; None for any other."""
        if not isinstance(dataset, ArrayDataset) or not self.model.fixed:
            return None
        if not REGISTERED.register(dataset.arrays):
            return None
        return lambda indices: {INDICES: np.array(indices, np.int32)}

    def infer(self, batch: Batch, size: int) -> list[Array] | TorchOutputs:
        on_device = as_picked(batch)
        indices = batch.get(INDICES)
        if not self.model.fixed or size > GRAPH_SIZES[-1]:
            if indices is not None:
                batch = {name: a[indices] for name, a in REGISTERED.arrays.items()}
            return self._run_eagerly(batch, size)
        if indices is not None:
            batch = REGISTERED.arrays
        if on_device is not None:
            batch = on_device.store.sample
        recorded = min((n for n in self._buffers if n >= size), default=0)
        buffers = self._buffers[recorded] if recorded else self._record(batch, size)
        if indices is None and on_device is None:
            for name in buffers.inputs:
                np.copyto(buffers.staged[name].numpy()[:size], batch[name])
        with self.current():
            self.events.start()
            if on_device is not None:
                on_device.store.fetch(on_device.rows, buffers.inputs)
            elif indices is not None:
                REGISTERED.fetch(indices, buffers.inputs, self.stream.cuda_stream)
            else:
                for name, tensor in buffers.inputs.items():
                    tensor.copy_(buffers.staged[name], non_blocking=True)
            self.events.mark(1)
            outputs = buffers.outputs
            if buffers.graph is None:
                outputs = self.model.program.run(buffers.inputs)
                self.events.mark(2)
            else:
                self.model.replay(buffers.graph, self.events, self.stream)
            if not self.ends_on_device:
                for result, output in zip(buffers.results, outputs, strict=True):
                    result.copy_(output, non_blocking=True)
            self.events.mark(3)
        self.events.finish(size)
        if self.ends_on_device:
            return TorchOutputs(outputs, size)
        return [result.numpy()[:size] for result in buffers.results]

    def graph_sizes(self, batch: int) -> tuple[int, ...]:
        """Return the sizes that hold batches of up to ``batch`` samples, ascending."""
        return choose_graph_sizes(batch) if self.model.fixed else ()

    def _record(self, batch: Batch, size: int) -> BatchBuffers:
        graph_size = next(known for known in GRAPH_SIZES if known >= size)
        with RECORDING:
            self._buffers[graph_size] = self._allocate(batch, graph_size)
        return self._buffers[graph_size]

    def _allocate(self, batch: Batch, size: int) -> BatchBuffers:
        torch, run = self._torch, self.model.program.run
        staged, inputs = {}, {}
        with torch.cuda.stream(self.stream):
            for name, array in batch.items():
                dtype = torch.from_numpy(array[:1]).dtype
                shape = (size, *array.shape[1:])
                staged[name] = torch.zeros(shape, dtype=dtype, pin_memory=True)
                inputs[name] = torch.zeros(shape, dtype=dtype, device="cuda")
            buffers = BatchBuffers(staged, inputs, run(inputs), [])
            run(inputs)  # a second time: libraries choose algorithms in the first runs
            self.stream.synchronize()
            try:
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                buffers.graph, buffers.outputs = record_graph(
                    lambda: [o.float() for o in run(inputs)], self.stream, self._pool
                )
                report = "one a batch size"
            except (RuntimeError, BuildFailed) as error:
                report = f"off: {first_line(error)}"
            self.model.facts["cuda graphs"] = report
            buffers.results = [
                torch.zeros(o.shape, dtype=torch.float32, pin_memory=True)
                for o in buffers.outputs
            ]
        return buffers

    def _run_eagerly(self, batch: Batch, size: int) -> list[Array] | TorchOutputs:
        torch, on_device = self._torch, as_picked(batch)
        with torch.cuda.stream(self.stream):
            self.events.start()
            if on_device is None:
                feeds = {
                    name: torch.from_numpy(array).pin_memory().cuda(non_blocking=True)
                    for name, array in batch.items()
                }
            else:
                feeds = {
                    name: torch.empty((size, *array.shape[1:]), dtype=array.dtype,
                                      device="cuda")
                    for name, array in on_device.store.arrays.items()
                }  # fmt: skip
                on_device.store.fetch(on_device.rows, feeds)
            self.events.mark(1)
            outputs = self.model.program.run(feeds)
            self.events.mark(2)
            if self.ends_on_device:
                self.events.mark(3)
                self.events.finish(size)
                return TorchOutputs(outputs, size)
            results = [o.float().to("cpu", non_blocking=True) for o in outputs]
            self.events.mark(3)
        self.events.finish(size)
        return [result.numpy() for result in results]

    def close(self) -> None:
        """Release graphs and buffers."""
        self.stream.synchronize()
        self._buffers.clear()
        self._pool = self._runner = None


def tensors_of(model: PaddedModel) -> Mapping[str, Any]:
    """Return the weights that must be on the device."""
    return {
        name: value
        for name, value in model.program.values.items()
        if value.is_floating_point() and value.ndim
    }
