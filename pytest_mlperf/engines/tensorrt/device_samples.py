"""Samples that lie in device memory beside a plan: copied to a batch on the device.

Rows are kept as wide as their longest, so that a batch of any length is a copy of each
row's beginning; nothing of a sample comes from the host during a run.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.engines.tensorrt.cuda import CudaError

if TYPE_CHECKING:
    from pytest_mlperf.engines.tensorrt.profiles import Shape
    from pytest_mlperf.engines.tensorrt.runtime import Plan
    from pytest_mlperf.engines.tensorrt.slot import Memory


@dataclass(frozen=True, slots=True)
class Kept:
    """All rows of one input."""

    address: int
    shape: Shape
    """Of a row."""
    row: int
    """Bytes of a row."""


@dataclass(slots=True)
class Rows:
    """A ``Store`` in the context of a plan, which it keeps open while it holds any."""

    opened: Callable[[], Plan]
    """Returns the plan, loaded again where its streams have closed it."""
    dynamic: bool
    """True where axis 1 varies by batch."""
    most: int
    """Longest sequence; 0 without one."""
    plan: Plan | None = None
    inputs: dict[str, Kept] = field(default_factory=dict)

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        plan = self.plan = self.opened()
        plan.hold()
        start, widest, total = 0, 1, 0
        stream = None
        with plan.cuda.current():
            stream = plan.cuda.stream()
            types = {port.name: port.dtype for port in plan.inputs}
            for batch in batches:
                for name, kind in types.items():
                    rows = self._wide(batch[name].astype(kind, copy=False))
                    if name not in self.inputs:
                        self.inputs[name] = self._room(plan, rows, count)
                        widest = max(widest, rows.itemsize)
                        total += self.inputs[name].row * count
                    self._bring(plan, self.inputs[name], rows, start, stream)
                start += len(next(iter(batch.values())))
        return total, float(widest)

    def drop(self) -> None:
        plan, self.plan = self.plan, None
        if plan is None:
            return
        with plan.cuda.current():
            for kept in self.inputs.values():
                plan.cuda.free(kept.address)
        self.inputs.clear()
        plan.release()

    def _wide(self, array: Array) -> Array:
        """Pad a batch's sequences to the longest of all."""
        lacking = self.most - array.shape[1] if self.dynamic and array.ndim > 1 else 0
        if lacking <= 0:
            return np.ascontiguousarray(array)
        more = [(0, 0), (0, lacking), *[(0, 0)] * (array.ndim - 2)]
        return np.pad(array, more)

    def _room(self, plan: Plan, rows: Array, count: int) -> Kept:
        row = rows.nbytes // len(rows)
        try:
            return Kept(plan.cuda.allocate(row * count), rows.shape[1:], row)
        except CudaError as error:
            raise BuildFailed(
                f"{count:,} samples do not fit into the device's memory beside the "
                f"plan: {error}; leave --mlperf-start-from-device away"
            ) from error

    def _bring(
        self, plan: Plan, kept: Kept, rows: Array, start: int, stream: Any
    ) -> None:
        if rows.shape[1:] != kept.shape:
            raise BuildFailed(
                f"samples have the shapes {kept.shape} and {rows.shape[1:]}, but the "
                "engine keeps only samples of one shape on the device; leave "
                "--mlperf-start-from-device away"
            )
        staged = plan.cuda.pinned(rows.nbytes)
        staged[:] = rows.reshape(-1).view(np.uint8)
        plan.cuda.copy_in(kept.address + start * kept.row, staged, stream)
        event = plan.cuda.event()
        plan.cuda.record(event, stream)
        plan.cuda.finish(event)

    def fetch(
        self, rows: Array, name: str, memory: Memory, shape: Shape, stream: Any
    ) -> None:
        """Enqueue the copies of chosen rows into a batch's input; the rest is zero."""
        plan, kept = self.plan, self.inputs[name]
        assert plan is not None, "samples are loaded before a run"
        cuda, size = plan.cuda, memory.port.bytes(shape)
        row = size // shape[0]
        if row > kept.row or shape[0] > len(rows):
            cuda.clear(memory.address, size, stream)
        if row == kept.row:
            for place, first, count in runs(rows):
                cuda.copy_within(
                    memory.address + place * row,
                    kept.address + first * row,
                    count * row,
                    stream,
                )
            return
        part = min(row, kept.row)
        for place, chosen in enumerate(rows.tolist()):
            cuda.copy_within(
                memory.address + place * row,
                kept.address + chosen * kept.row,
                part,
                stream,
            )


def shapes_of(batch: Batch) -> dict[str, Shape]:
    """Return the shape of each input of a batch, wherever its samples lie."""
    if not isinstance(batch, Picked):
        return {name: array.shape for name, array in batch.items()}
    count, store = len(batch.rows), batch.store
    shapes = {}
    for name, kept in store.inputs.items():
        shape = (count, *kept.shape)
        if store.dynamic and batch.longest and len(shape) > 1:
            shape = (count, batch.longest, *kept.shape[1:])
        shapes[name] = shape
    return shapes


def part_of(batch: Batch, start: int, most: int) -> Batch:
    """Return at most so many of a batch's samples."""
    rows = slice(start, start + most)
    if isinstance(batch, Picked):
        return Picked(batch.store, batch.rows[rows], batch.longest)
    return {name: array[rows] for name, array in batch.items()}


def runs(chosen: Array) -> list[tuple[int, int, int]]:
    """Return (place, first sample, count) of each run of neighbouring samples."""
    if not len(chosen):
        return []
    cuts = np.flatnonzero(np.diff(chosen) != 1) + 1
    starts = np.concatenate([[0], cuts])
    counts = np.diff(np.concatenate([starts, [len(chosen)]]))
    return list(
        zip(starts.tolist(), chosen[starts].tolist(), counts.tolist(), strict=True)
    )
