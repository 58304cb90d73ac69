"""One stream of a plan: pinned memory in and out, three CUDA streams, CUDA graphs.

A batch larger than the plan's is cut into chunks, which take turns in two slots: while
one chunk computes, the next is copied in and the last one out. Batches of several
threads overlap in the same way, each with a stream of this kind.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.timeline import Timeline
from pytest_mlperf.engines.tensorrt.device_samples import part_of
from pytest_mlperf.engines.tensorrt.device_samples import shapes_of
from pytest_mlperf.engines.tensorrt.profiles import Shape
from pytest_mlperf.engines.tensorrt.profiles import bucket
from pytest_mlperf.engines.tensorrt.profiles import fit
from pytest_mlperf.engines.tensorrt.profiles import graph_batches
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.runtime import RunFailed
from pytest_mlperf.engines.tensorrt.slot import Launch
from pytest_mlperf.engines.tensorrt.slot import Memory
from pytest_mlperf.engines.tensorrt.slot import Slot
from pytest_mlperf.engines.tensorrt.slot import fill
from pytest_mlperf.engines.tensorrt.slot import must

LENGTH_STEP = 64
"""Lengths that CUDA graphs are recorded for; a batch is padded up to the next."""
MOST_GRAPHS = 96
"""Graphs of one slot; each keeps some MiB of launches on the device."""
SLOTS = 2


class TensorrtStream:
    """Used from one thread at a time; ``infer`` returns when the answers are here."""

    answers = False

    def __init__(self, plan: Plan, outputs: Sequence[str], *, dynamic: bool) -> None:
        cuda = plan.cuda
        self.plan, self.outputs, self.dynamic = plan, tuple(outputs), dynamic
        self.timeline = Timeline()
        self._in, self._compute, self._out = (cuda.stream() for _ in range(3))
        # Chunks compute one after another, so that they share one workspace.
        size = plan.engine.device_memory_size_v2
        self._workspace = (cuda.allocate(max(size, 1)), size)
        self._slots = [self._slot() for _ in range(SLOTS)]
        fixed = all(port.shape[0] >= 0 for port in plan.inputs)
        self._sizes = (plan.most,) if fixed else graph_batches(plan.most)
        self._fixed = fixed
        steps = range(LENGTH_STEP, plan.longest, LENGTH_STEP)
        self._lengths = (*steps, plan.longest) if dynamic else ()
        if plan.graphs:
            plan.graphs_said = self._record()

    def infer(self, batch: Batch, size: int) -> list[Array]:
        """Return the outputs in the model's order, each with ``size`` rows.

        The arrays of a batch that is one chunk lie in pinned memory and hold until the
        next call.
        """
        with self.plan.cuda.current():
            starts = range(0, size, self.plan.most)
            under_way: list[tuple[Slot, dict[str, Array]]] = []
            parts: list[list[Array]] = []
            for number, start in enumerate(starts):
                slot = self._slots[number % SLOTS]
                if len(under_way) == SLOTS:
                    parts.append(self._collect(*under_way.pop(0), keep=True))
                rows = part_of(batch, start, self.plan.most)
                under_way.append((slot, self._begin(slot, rows)))
            keep = bool(parts) or len(under_way) > 1
            parts += [self._collect(*one, keep=keep) for one in under_way]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    @property
    def facts(self) -> Mapping[str, str]:
        """What became of CUDA graphs when the plan's streams were opened."""
        return {"cuda graphs": self.plan.graphs_said}

    def close(self) -> None:
        """Let go of contexts; the plan's last stream takes everything else along."""
        with self.plan.cuda.current():
            self._slots.clear()
        self.plan.release()

    def _slot(self) -> Slot:
        cuda, plan = self.plan.cuda, self.plan
        context = plan.context()
        inputs, room = {}, {port.name: 0 for port in plan.outputs}
        for number, top in enumerate(plan.tops):
            self._choose(context, number)
            for port in plan.inputs:
                must(context.set_input_shape(port.name, top[port.name]), port.name)
            for name in room:
                room[name] = max(room[name], context.get_max_output_size(name))
        for port in plan.inputs:
            size = max(port.bytes(top[port.name]) for top in plan.tops)
            inputs[port.name] = Memory(port, cuda.pinned(size), cuda.allocate(size))
        outputs = {
            port.name: Memory(
                port, cuda.pinned(room[port.name]), cuda.allocate(room[port.name])
            )
            for port in plan.outputs
        }
        return Slot(inputs, outputs, *(cuda.event() for _ in range(4)))

    def _choose(self, context: Any, profile: int) -> None:
        cuda, stream = self.plan.cuda, self._compute
        done = context.set_optimization_profile_async(profile, cuda.handle(stream))
        must(done, f"optimization profile {profile}")
        event = cuda.event()
        cuda.record(event, stream)
        cuda.finish(event)

    def _set_up(self, context: Any, slot: Slot, shapes: dict[str, Shape]) -> Launch:
        """Give a context workspace, shapes and addresses."""
        context.set_device_memory(*self._workspace)
        for name, memory in slot.inputs.items():
            must(context.set_input_shape(name, shapes[name]), f"{name} {shapes[name]}")
            must(context.set_tensor_address(name, memory.address), name)
        for name, memory in slot.outputs.items():
            must(context.set_tensor_address(name, memory.address), name)
        lacking = context.infer_shapes()
        if lacking:
            raise RunFailed(f"TensorRT lacks the shapes of {', '.join(lacking)}")
        outputs = {n: tuple(context.get_tensor_shape(n)) for n in slot.outputs}
        return Launch(context, outputs)

    def _record(self) -> str:
        """Record a CUDA graph for each batch and length; say how that went.

        A graph keeps what its context was set to, so each has a context of its own.
        """
        cuda, stream = self.plan.cuda, self._compute
        sizes = [(b, n) for n in self._lengths or (0,) for b in self._sizes]
        # The largest ones gain least, and the list may be cut.
        sizes = sorted(sizes, key=lambda s: s[0] * max(1, s[1]))[:MOST_GRAPHS]
        try:
            for slot in self._slots:
                for size in sizes:
                    shapes = self._padded(*size)
                    profile = fit(self.plan.tops, shapes)
                    if profile is None:
                        continue
                    context = self.plan.context()
                    self._choose(context, profile)
                    launch = self._set_up(context, slot, shapes)
                    # Once without recording: what was put off until the first run
                    # cannot be recorded.
                    self._enqueue(launch)
                    cuda.record(slot.done, stream)
                    cuda.finish(slot.done)
                    enqueue = partial(self._enqueue, launch)
                    launch.graph = cuda.capture(stream, enqueue)
                    slot.launches[size] = launch
        except (RuntimeError, RunFailed) as error:  # CudaError is one
            for slot in self._slots:
                slot.launches.clear()
            return f"off: {error}"
        return f"{len(self._slots[0].launches)} a slot"

    def _padded(self, size: int, length: int) -> dict[str, Shape]:
        """Return input shapes of a batch; axis 1 is ``length`` where that varies."""
        top = self.plan.tops[-1]
        return {
            p.name: tuple(
                n if n >= 0 else (size, length or top[p.name][axis])[axis]
                for axis, n in enumerate(p.shape)
            )
            for p in self.plan.inputs
        }

    def _enqueue(self, launch: Launch) -> None:
        handle = self.plan.cuda.handle(self._compute)
        must(launch.context.execute_async_v3(handle), "execute_async_v3")

    def _begin(self, slot: Slot, rows: Batch) -> dict[str, Array]:
        """Enqueue one chunk; return its outputs, which are there after ``done``."""
        cuda, asked = self.plan.cuda, shapes_of(rows)
        launch, shapes = self._launch(slot, asked)
        there = rows if isinstance(rows, Picked) else None
        if there is None:
            for name, memory in slot.inputs.items():
                fill(memory.view(shapes[name]), rows[name])
        slot.started, slot.rows = time.perf_counter(), next(iter(asked.values()))[0]
        cuda.record(slot.begun, self._in)
        for name, memory in slot.inputs.items():
            if there is None:
                cuda.copy_in(memory.address, memory.view(shapes[name]), self._in)
            else:
                there.store.fetch(there.rows, name, memory, shapes[name], self._in)
        cuda.record(slot.copied, self._in)
        cuda.wait(self._compute, slot.copied)
        if launch.graph is None:
            self._enqueue(launch)
        else:
            cuda.replay(launch.graph, self._compute)
        cuda.record(slot.computed, self._compute)
        cuda.wait(self._out, slot.computed)
        found = {n: slot.outputs[n].view(s) for n, s in launch.outputs.items()}
        for name, view in found.items():
            cuda.copy_out(view, slot.outputs[name].address, self._out)
        cuda.record(slot.done, self._out)
        return {n: self._cut(found[n], asked, shapes) for n in found}

    def _launch(
        self, slot: Slot, asked: Mapping[str, Shape]
    ) -> tuple[Launch, dict[str, Shape]]:
        """Return how a chunk runs and in which shapes: recorded ones if any hold it."""
        shapes = {name: asked[name] for name in slot.inputs}
        first = next(iter(shapes.values()))
        length = bucket(first[1], self._lengths) if self.dynamic else 0
        size = bucket(first[0], self._sizes)
        recorded = slot.launches.get((size, length))
        if recorded is not None:
            return recorded, self._padded(size, length)
        if self._fixed:
            shapes = self._padded(size, length)
        profile = fit(self.plan.tops, shapes)
        if profile is None:
            raise RunFailed(
                f"a batch has the shapes {shapes}, but the plan takes at most "
                f"{dict(self.plan.tops[-1])}; delete it, and the next run builds it "
                "for the data as it is now"
            )
        if profile not in slot.free:
            slot.free[profile] = self.plan.context()
            self._choose(slot.free[profile], profile)
        return self._set_up(slot.free[profile], slot, shapes), shapes

    def _cut(
        self, found: Array, asked: Mapping[str, Shape], shapes: dict[str, Shape]
    ) -> Array:
        """Take off padding: rows beyond the chunk's, positions beyond its length."""
        name = next(iter(shapes))
        found = found[: asked[name][0]]
        padded = self.dynamic and shapes[name][1] != asked[name][1]
        if padded and found.ndim > 1 and found.shape[1] == shapes[name][1]:
            return found[:, : asked[name][1]]
        return found

    def _collect(
        self, slot: Slot, found: dict[str, Array], *, keep: bool
    ) -> list[Array]:
        """Wait for a chunk; ``keep`` copies, as its slot is about to be used again."""
        cuda = self.plan.cuda
        cuda.finish(slot.done)
        self.timeline.note(
            (time.perf_counter() - slot.started) * 1e3,
            cuda.elapsed_ms(slot.begun, slot.copied),
            cuda.elapsed_ms(slot.copied, slot.computed),
            cuda.elapsed_ms(slot.computed, slot.done),
            slot.rows,
        )
        return [found[n].copy() if keep else found[n] for n in self.outputs]
