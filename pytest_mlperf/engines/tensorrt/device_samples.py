"""Samples in device memory beside a plan, copied to a batch on the device.

Rows are stored as wide as the longest of them, so that a batch of any length is a copy
of each row's beginning; nothing of a sample comes from the host during a run.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.device_dataset import check_equal_shapes
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.engines.tensorrt.cuda import CudaError
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.runtime import TensorBuffer


@dataclass(frozen=True, slots=True)
class InputRows:
    """All rows of one input."""

    address: int
    shape: Shape
    """Of a row."""
    row_bytes: int


@dataclass(slots=True)
class PlanSampleStore:
    """A ``Store`` in a plan's context, which stays open while samples are there."""

    load_plan: Callable[[], Plan]
    """Returns the plan, loaded again where its streams have closed it."""
    dynamic: bool
    """True where axis 1 varies by batch."""
    max_length: int
    """Longest sequence; 0 without one."""
    plan: Plan | None = None
    inputs: dict[str, InputRows] = field(default_factory=dict)

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        plan = self.plan = self.load_plan()
        plan.hold()
        start, widest, total = 0, 1, 0
        with plan.cuda.current():
            stream = plan.cuda.stream()
            converted = (self._convert(plan, batch) for batch in batches)
            for batch in check_equal_shapes(converted):
                for name, rows in batch.items():
                    if name not in self.inputs:
                        self.inputs[name] = self._allocate(plan, rows, count)
                        widest = max(widest, rows.itemsize)
                        total += self.inputs[name].row_bytes * count
                    self._copy_in(plan, self.inputs[name], rows, start, stream)
                start += len(rows)
        return total, float(widest)

    def drop(self) -> None:
        plan, self.plan = self.plan, None
        if plan is None:
            return
        with plan.cuda.current():
            for stored in self.inputs.values():
                plan.cuda.free(stored.address)
        self.inputs.clear()
        plan.release()

    def _convert(self, plan: Plan, batch: Batch) -> Batch:
        """Return the plan's inputs in its types, padded to the longest of all."""
        return {
            tensor.name: self._pad(batch[tensor.name].astype(tensor.dtype, copy=False))
            for tensor in plan.inputs
        }

    def _pad(self, array: Array) -> Array:
        is_sequence = self.dynamic and array.ndim > 1
        lacking = self.max_length - array.shape[1] if is_sequence else 0
        if lacking <= 0:
            return np.ascontiguousarray(array)
        padding = [(0, 0), (0, lacking), *[(0, 0)] * (array.ndim - 2)]
        return np.pad(array, padding)

    def _allocate(self, plan: Plan, rows: Array, count: int) -> InputRows:
        size = rows.nbytes // len(rows)
        try:
            return InputRows(plan.cuda.allocate(size * count), rows.shape[1:], size)
        except CudaError as error:
            raise BuildFailed(
                f"{count:,} samples do not fit into the device's memory beside the "
                f"plan: {error}; leave --mlperf-start-from-device away"
            ) from error

    def _copy_in(
        self, plan: Plan, stored: InputRows, rows: Array, start: int, stream: Any
    ) -> None:
        staged = plan.cuda.pinned(rows.nbytes)
        staged[:] = rows.reshape(-1).view(np.uint8)
        target = stored.address + start * stored.row_bytes
        plan.cuda.copy_in(target, staged, stream)
        event = plan.cuda.event()
        plan.cuda.record(event, stream)
        plan.cuda.finish(event)

    def fetch(
        self, rows: Array, name: str, buffer: TensorBuffer, shape: Shape, stream: Any
    ) -> None:
        """Enqueue the copies of rows into a batch's input; the rest is zero."""
        plan, stored = self.plan, self.inputs[name]
        assert plan is not None, "samples are loaded before a run"
        cuda, size = plan.cuda, buffer.tensor.bytes(shape)
        row_bytes = size // shape[0]
        if row_bytes > stored.row_bytes or shape[0] > len(rows):
            cuda.clear(buffer.address, size, stream)
        spans = [(place, row, 1) for place, row in enumerate(rows.tolist())]
        if row_bytes == stored.row_bytes:
            spans = find_runs(rows)  # whole rows: neighbours are one copy
        part = min(row_bytes, stored.row_bytes)
        for place, row, count in spans:
            cuda.copy_within(
                buffer.address + place * row_bytes,
                stored.address + row * stored.row_bytes,
                part * count,
                stream,
            )


def shapes_of(batch: Batch) -> dict[str, Shape]:
    """Return the shape of each input of a batch, wherever its samples lie."""
    if not isinstance(batch, Picked):
        return {name: array.shape for name, array in batch.items()}
    count, store = len(batch.rows), batch.store
    shapes = {}
    for name, stored in store.inputs.items():
        shape = (count, *stored.shape)
        if store.dynamic and batch.longest and len(shape) > 1:
            shape = (count, batch.longest, *stored.shape[1:])
        shapes[name] = shape
    return shapes


def cut_batch(batch: Batch, start: int, most: int) -> Batch:
    """Return at most ``most`` of a batch's samples, from ``start`` on."""
    rows = slice(start, start + most)
    if isinstance(batch, Picked):
        return Picked(batch.store, batch.rows[rows], batch.longest)
    return {name: array[rows] for name, array in batch.items()}


def find_runs(chosen: Array) -> list[tuple[int, int, int]]:
    """Return (place, first sample, count) of each run of neighbouring samples."""
    if not len(chosen):
        return []
    cuts = np.flatnonzero(np.diff(chosen) != 1) + 1
    starts = np.concatenate([[0], cuts])
    counts = np.diff(np.concatenate([starts, [len(chosen)]]))
    return list(
        zip(starts.tolist(), chosen[starts].tolist(), counts.tolist(), strict=True)
    )
