"""One stream of a plan: pinned memory in and out, three CUDA streams, CUDA graphs.

A batch larger than the plan's is cut into chunks, which take turns in two slots: while
one chunk computes, the next is copied in and the last one out. Batches of several
threads overlap in the same way, each with a stream of this kind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.engines.tensorrt.cuda import translate_errors
from pytest_mlperf.engines.tensorrt.device_samples import cut_batch
from pytest_mlperf.engines.tensorrt.device_samples import shapes_of
from pytest_mlperf.engines.tensorrt.runtime import Launcher
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.runtime import StreamSlot

SLOTS = 2


class TensorrtStream:
    """Used from one thread at a time; ``infer`` returns when the answers are here."""

    answers = False

    def __init__(self, plan: Plan, outputs: Sequence[str], *, dynamic: bool) -> None:
        cuda = plan.cuda
        self.plan, self.outputs, self.dynamic = plan, tuple(outputs), dynamic
        self.timeline = Timeline()
        self._in, self._compute, self._out = (cuda.stream() for _ in range(3))
        self._launcher = Launcher(plan, self._compute, dynamic=dynamic)
        self._slots = [self._launcher.open_slot() for _ in range(SLOTS)]
        if plan.cuda_graphs:
            plan.graph_report = self._launcher.record_graphs(self._slots)

    def infer(self, batch: Batch, size: int) -> list[Array]:
        """Return the outputs in the model's order, each with ``size`` rows.

        The arrays of a batch that is one chunk lie in pinned memory and hold until the
        next call.
        """
        with self.plan.cuda.current():
            starts = range(0, size, self.plan.max_batch)
            under_way: list[tuple[StreamSlot, dict[str, Array]]] = []
            parts: list[list[Array]] = []
            for number, start in enumerate(starts):
                slot = self._slots[number % SLOTS]
                if len(under_way) == SLOTS:
                    parts.append(self._collect(*under_way.pop(0), copy=True))
                chunk = cut_batch(batch, start, self.plan.max_batch)
                under_way.append((slot, self._begin(slot, chunk)))
            copy = bool(parts) or len(under_way) > 1
            parts += [self._collect(*one, copy=copy) for one in under_way]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    @property
    def facts(self) -> Mapping[str, str]:
        """What became of CUDA graphs when the plan's streams were opened."""
        return {"cuda graphs": self.plan.graph_report}

    def close(self) -> None:
        """Drop the contexts; the plan's last user releases everything else."""
        with self.plan.cuda.current():
            self._slots.clear()
        self.plan.release()

    def _begin(self, slot: StreamSlot, chunk: Batch) -> dict[str, Array]:
        """Enqueue one chunk; return its outputs, which are there after ``done``."""
        cuda, sizes = self.plan.cuda, shapes_of(chunk)
        launch, shapes = self._launcher.find_launch(slot, sizes)
        on_device = chunk if isinstance(chunk, Picked) else None
        if on_device is None:
            for name, buffer in slot.inputs.items():
                copy_padded(buffer.view(shapes[name]), chunk[name])
        slot.started, slot.rows = time.perf_counter(), next(iter(sizes.values()))[0]
        cuda.record(slot.begun, self._in)
        for name, buffer in slot.inputs.items():
            if on_device is None:
                cuda.copy_in(buffer.address, buffer.view(shapes[name]), self._in)
            else:
                rows = on_device.rows
                on_device.store.fetch(rows, name, buffer, shapes[name], self._in)
        cuda.record(slot.copied, self._in)
        cuda.wait(self._compute, slot.copied)
        self._launcher.enqueue(launch)
        cuda.record(slot.computed, self._compute)
        cuda.wait(self._out, slot.computed)
        outputs = {n: slot.outputs[n].view(s) for n, s in launch.outputs.items()}
        for name, view in outputs.items():
            cuda.copy_out(view, slot.outputs[name].address, self._out)
        cuda.record(slot.done, self._out)
        return {n: self._trim(view, sizes, shapes) for n, view in outputs.items()}

    def _trim(
        self, output: Array, sizes: Mapping[str, Shape], padded: Mapping[str, Shape]
    ) -> Array:
        """Cut padding off: rows beyond the chunk's, positions beyond its length."""
        name = next(iter(padded))
        output = output[: sizes[name][0]]
        is_padded = self.dynamic and padded[name][1] != sizes[name][1]
        if is_padded and output.ndim > 1 and output.shape[1] == padded[name][1]:
            return output[:, : sizes[name][1]]
        return output

    def _collect(
        self, slot: StreamSlot, outputs: dict[str, Array], *, copy: bool
    ) -> list[Array]:
        """Wait for a chunk; ``copy`` where its slot is about to be used again."""
        cuda = self.plan.cuda
        cuda.finish(slot.done)
        self.timeline.note(
            (time.perf_counter() - slot.started) * 1e3,
            cuda.elapsed_ms(slot.begun, slot.copied),
            cuda.elapsed_ms(slot.copied, slot.computed),
            cuda.elapsed_ms(slot.computed, slot.done),
            slot.rows,
        )
        return [outputs[n].copy() if copy else outputs[n] for n in self.outputs]


def copy_padded(target: Array, source: Array) -> None:
    """Copy a batch into the corner of its padded shape; the rest is zero."""
    if target.shape != source.shape:
        target[...] = 0
    target[tuple(slice(0, n) for n in source.shape)] = source


def open_stream(plan: Plan, model: ModelFile) -> TensorrtStream:
    """Open one more stream of a plan. Raises ``PlanRunFailed``."""
    with translate_errors("opening a stream"), plan.cuda.current():
        stream = TensorrtStream(plan, model.outputs, dynamic=model.dynamic_length)
    plan.hold()
    return stream


def try_plan(path: Path, *, cuda_graphs: bool) -> dict[str, str]:
    """Open a plan as a run would, and run its largest batch of zeros once.

    Memory that runs out here would run out in a run. Raises what went wrong.
    """
    plan = Plan.load(path, cuda_graphs=cuda_graphs)
    outputs = tuple(tensor.name for tensor in plan.outputs)
    model = ModelFile(path, tuple(tensor.name for tensor in plan.inputs), outputs)
    stream = open_stream(plan, model)
    try:
        shapes = plan.max_shapes[-1]
        batch = {t.name: np.zeros(shapes[t.name], t.dtype) for t in plan.inputs}
        stream.infer(batch, plan.max_batch)
        return {"trial": f"a batch of {plan.max_batch} ran on the device"}
    finally:
        stream.close()
