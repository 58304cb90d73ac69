"""A plan on the device: one CUDA context, weights once, and launches that share them.

Written against the documented API of TensorRT 10 and later (named tensors,
``execute_async_v3``); every call into CUDA goes through ``cuda.Cuda``.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.config.shape_options import Shape
from pytest_mlperf.engines.tensorrt.cuda import Cuda
from pytest_mlperf.engines.tensorrt.cuda import PlanRunFailed
from pytest_mlperf.engines.tensorrt.cuda import PyCuda
from pytest_mlperf.engines.tensorrt.cuda import translate_errors
from pytest_mlperf.engines.tensorrt.library import load_library
from pytest_mlperf.engines.tensorrt.settings import LENGTH_STEP
from pytest_mlperf.engines.tensorrt.settings import Shapes
from pytest_mlperf.engines.tensorrt.settings import choose_graph_batches
from pytest_mlperf.engines.tensorrt.settings import find_profile
from pytest_mlperf.engines.tensorrt.settings import round_up

MAX_GRAPHS = 96
"""Graphs of one slot; each keeps some MiB of launches on the device."""


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """An input or output of a plan."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    """As in the graph; -1 varies."""

    def bytes(self, shape: Shape) -> int:
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(slots=True)
class Plan:
    """A TensorRT engine in device memory, in a context of its own."""

    trt: Any
    cuda: Cuda
    engine: Any
    cuda_graphs: bool
    """Whether streams record CUDA graphs."""
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
    max_shapes: tuple[Shapes, ...]
    """Largest input shapes of each profile; one entry for a plan without profiles."""
    closed: bool = False
    graph_report: str = "off"
    """What became of CUDA graphs, for the run's facts."""
    _users: int = field(default=0)
    _owners: tuple[Any, ...] = field(default=())

    @classmethod
    def load(cls, path: Path, *, cuda_graphs: bool) -> Plan:
        """Read a plan into the device's memory. Raises ``PlanRunFailed``."""
        trt = load_library().module
        with translate_errors("loading the plan"):
            cuda = PyCuda()
            try:
                with cuda.current():
                    content = path.read_bytes()
                    return cls.deserialize(trt, cuda, content, cuda_graphs=cuda_graphs)
            except BaseException:
                cuda.close()
                raise

    @classmethod
    def deserialize(
        cls, trt: Any, cuda: Cuda, content: bytes, *, cuda_graphs: bool
    ) -> Plan:
        """Deserialize a plan in the current context."""
        logger = trt.Logger(trt.Logger.WARNING)
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise PlanRunFailed(
                "TensorRT does not take it on this device; it was built for another "
                "one or by another version"
            )
        inputs: list[PlanTensor] = []
        outputs: list[PlanTensor] = []
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            tensor = PlanTensor(name, dtype, tuple(engine.get_tensor_shape(name)))
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(tensor)
        max_shapes = tuple(
            {tensor.name: _max_shape(engine, tensor, number) for tensor in inputs}
            for number in range(engine.num_optimization_profiles)
        )
        return cls(
            trt,
            cuda,
            engine,
            cuda_graphs,
            tuple(inputs),
            tuple(outputs),
            max_shapes,
            # The logger and the runtime must outlive the engine.
            _owners=(logger, runtime),
        )

    def hold(self) -> None:
        """Keep the plan open until as many calls of ``release``."""
        self._users += 1

    def release(self) -> None:
        """Forget one user; the last one takes engine and context with it."""
        self._users -= 1
        if not self._users:
            self.closed = True
            with self.cuda.current():
                self.engine, self._owners = None, ()
            self.cuda.close()

    def create_context(self) -> Any:
        """Return an execution context that is given its workspace from outside."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy)
        if context is None:
            raise PlanRunFailed("no execution context: TensorRT's log above says why")
        return context

    @property
    def max_batch(self) -> int:
        """Rows of the largest batch."""
        return max(s[0] for shapes in self.max_shapes for s in shapes.values())

    @property
    def max_length(self) -> int:
        """Largest axis 1 of any input with one."""
        every = [s for shapes in self.max_shapes for s in shapes.values()]
        return max((shape[1] for shape in every if len(shape) > 1), default=0)


def _max_shape(engine: Any, tensor: PlanTensor, profile: int) -> Shape:
    if all(size >= 0 for size in tensor.shape):
        return tensor.shape
    _, _, largest = engine.get_tensor_profile_shape(tensor.name, profile)
    return tuple(largest)


def check(accepted: bool, action: str) -> None:
    if not accepted:
        raise PlanRunFailed(f"TensorRT refused {action}; its log above says why")


@dataclass(slots=True)
class TensorBuffer:
    """Room for one tensor's largest shape, on the host (pinned) and on the device."""

    tensor: PlanTensor
    host: Array
    address: int

    def view(self, shape: Shape) -> Array:
        """Return the host's bytes as an array of that shape."""
        size = self.tensor.bytes(shape)
        return self.host[:size].view(self.tensor.dtype).reshape(shape)


@dataclass(slots=True)
class Launch:
    """An execution context with its shapes and addresses set; ``graph`` if recorded."""

    context: Any
    outputs: dict[str, Shape]
    graph: Any = None


@dataclass(slots=True)
class StreamSlot:
    """Buffers and events of one chunk under way."""

    inputs: dict[str, TensorBuffer]
    outputs: dict[str, TensorBuffer]
    begun: Any
    copied: Any
    computed: Any
    done: Any
    started: float = 0.0
    """Host's time at ``begun``, seconds."""
    rows: int = 0
    """Samples under way."""
    recorded: dict[tuple[int, int], Launch] = field(default_factory=dict)
    """(batch, length) -> launch with a graph."""
    contexts: dict[int, Any] = field(default_factory=dict)
    """Profile -> context for shapes that are not recorded."""


class Launcher:
    """Prepares and enqueues launches of a plan on one CUDA stream."""

    def __init__(self, plan: Plan, stream: Any, *, dynamic: bool) -> None:
        self.plan, self.stream, self.dynamic = plan, stream, dynamic
        # Chunks compute one after another, so that they share one workspace.
        size = plan.engine.device_memory_size_v2
        self._workspace = (plan.cuda.allocate(max(size, 1)), size)
        self._fixed = all(tensor.shape[0] >= 0 for tensor in plan.inputs)
        largest = plan.max_batch
        self._batches = (largest,) if self._fixed else choose_graph_batches(largest)
        steps = range(LENGTH_STEP, plan.max_length, LENGTH_STEP)
        self._lengths = (*steps, plan.max_length) if dynamic else ()

    def open_slot(self) -> StreamSlot:
        """Allocate the buffers of a slot, for the largest shapes of any profile."""
        cuda, plan = self.plan.cuda, self.plan
        context = plan.create_context()
        sizes = {tensor.name: 0 for tensor in plan.outputs}
        for number, shapes in enumerate(plan.max_shapes):
            self._choose_profile(context, number)
            for name, shape in shapes.items():
                check(context.set_input_shape(name, shape), name)
            for name in sizes:
                sizes[name] = max(sizes[name], context.get_max_output_size(name))
        for tensor in plan.inputs:
            every = (shapes[tensor.name] for shapes in plan.max_shapes)
            sizes[tensor.name] = max(tensor.bytes(shape) for shape in every)

        def allocate(tensors: Sequence[PlanTensor]) -> dict[str, TensorBuffer]:
            return {
                tensor.name: TensorBuffer(
                    tensor,
                    cuda.pinned(sizes[tensor.name]),
                    cuda.allocate(sizes[tensor.name]),
                )
                for tensor in tensors
            }

        events = (cuda.event() for _ in range(4))
        return StreamSlot(allocate(plan.inputs), allocate(plan.outputs), *events)

    def record_graphs(self, slots: Sequence[StreamSlot]) -> str:
        """Record a CUDA graph for each batch and length; say how that went.

        A graph keeps what its context was set to, so each has a context of its own.
        """
        cuda, stream = self.plan.cuda, self.stream
        sizes = [(b, n) for n in self._lengths or (0,) for b in self._batches]
        # The largest ones gain least, and the list may be cut.
        sizes = sorted(sizes, key=lambda s: s[0] * max(1, s[1]))[:MAX_GRAPHS]
        try:
            for slot in slots:
                for size in sizes:
                    shapes = self._padded_shapes(*size)
                    profile = find_profile(self.plan.max_shapes, shapes)
                    if profile is None:
                        continue
                    context = self.plan.create_context()
                    self._choose_profile(context, profile)
                    launch = self._set_up(context, slot, shapes)
                    # Once without recording: what TensorRT puts off until the first
                    # run cannot be recorded.
                    self._execute(launch)
                    cuda.record(slot.done, stream)
                    cuda.finish(slot.done)
                    launch.graph = cuda.capture(stream, partial(self._execute, launch))
                    slot.recorded[size] = launch
        except (RuntimeError, PlanRunFailed) as error:  # CudaError is one
            for slot in slots:
                slot.recorded.clear()
            return f"off: {error}"
        return f"{len(slots[0].recorded)} a slot"

    def find_launch(
        self, slot: StreamSlot, shapes: Mapping[str, Shape]
    ) -> tuple[Launch, dict[str, Shape]]:
        """Return how a chunk runs and in which shapes: recorded ones if any hold it."""
        padded = {name: shapes[name] for name in slot.inputs}
        first = next(iter(padded.values()))
        length = round_up(first[1], self._lengths) if self.dynamic else 0
        batch = round_up(first[0], self._batches)
        recorded = slot.recorded.get((batch, length))
        if recorded is not None:
            return recorded, self._padded_shapes(batch, length)
        if self._fixed:
            padded = self._padded_shapes(batch, length)
        profile = find_profile(self.plan.max_shapes, padded)
        if profile is None:
            raise PlanRunFailed(
                f"a batch has the shapes {padded}, but the plan takes at most "
                f"{dict(self.plan.max_shapes[-1])}; delete it, and the next run builds "
                "it for the data as it is now"
            )
        if profile not in slot.contexts:
            slot.contexts[profile] = self.plan.create_context()
            self._choose_profile(slot.contexts[profile], profile)
        return self._set_up(slot.contexts[profile], slot, padded), padded

    def enqueue(self, launch: Launch) -> None:
        if launch.graph is None:
            self._execute(launch)
        else:
            self.plan.cuda.replay(launch.graph, self.stream)

    def _execute(self, launch: Launch) -> None:
        handle = self.plan.cuda.handle(self.stream)
        check(launch.context.execute_async_v3(handle), "execute_async_v3")

    def _choose_profile(self, context: Any, profile: int) -> None:
        cuda, stream = self.plan.cuda, self.stream
        done = context.set_optimization_profile_async(profile, cuda.handle(stream))
        check(done, f"optimization profile {profile}")
        event = cuda.event()
        cuda.record(event, stream)
        cuda.finish(event)

    def _set_up(
        self, context: Any, slot: StreamSlot, shapes: Mapping[str, Shape]
    ) -> Launch:
        """Give a context its workspace, shapes and addresses."""
        context.set_device_memory(*self._workspace)
        for name, buffer in slot.inputs.items():
            shape = shapes[name]
            check(context.set_input_shape(name, shape), f"{name} {shape}")
            check(context.set_tensor_address(name, buffer.address), name)
        for name, buffer in slot.outputs.items():
            check(context.set_tensor_address(name, buffer.address), name)
        unknown = context.infer_shapes()
        if unknown:
            raise PlanRunFailed(f"TensorRT lacks the shapes of {', '.join(unknown)}")
        outputs = {n: tuple(context.get_tensor_shape(n)) for n in slot.outputs}
        return Launch(context, outputs)

    def _padded_shapes(self, batch: int, length: int) -> dict[str, Shape]:
        """Return a batch's input shapes; axis 1 is ``length`` where that varies."""
        largest = self.plan.max_shapes[-1]
        return {
            t.name: tuple(
                n if n >= 0 else (batch, length or largest[t.name][axis])[axis]
                for axis, n in enumerate(t.shape)
            )
            for t in self.plan.inputs
        }
