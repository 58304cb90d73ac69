"""A CUDA device that does nothing until it has to, and a plan that runs on it.

The smallest one that a mistake in the order of things shows on: copies and kernels are
put off until an event that the host waits for asks for them, and memory keeps whatever
was written last.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from types import SimpleNamespace
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.engines.tensorrt.cuda import CudaError
from pytest_mlperf.engines.tensorrt.settings import Profile
from pytest_mlperf.engines.tensorrt.settings import shape_limits

INPUT, OUTPUT = "in", "out"


@dataclass(eq=False)
class Stream:
    """Work that waits, oldest first; an early one does not wait."""

    early: bool = False
    work: list[Callable[[], None]] = field(default_factory=list)
    done: int = 0
    recording: list[Callable[[], None]] | None = None

    def put(self, task: Callable[[], None]) -> None:
        (self.work if self.recording is None else self.recording).append(task)
        if self.early:
            self.run(len(self.work))

    def run(self, upto: int) -> None:
        while self.done < upto:
            self.done += 1
            self.work[self.done - 1]()


@dataclass(eq=False)
class Event:
    """A mark in a stream: that far and no further."""

    at: tuple[Stream, int] | None = None


@dataclass
class LazyCuda:
    """Runs what an event needs when the host waits for it, and nothing else."""

    graphs: bool = True
    early: bool = False
    """Copies in are done at once: too early for a buffer that is still read."""
    room: int = 1 << 40
    entered: int = 0
    closed: bool = False
    replays: int = 0
    streams: list[Stream] = field(default_factory=list)
    memory: dict[int, Array] = field(default_factory=dict)

    @contextmanager
    def current(self) -> Iterator[None]:
        self.entered += 1
        try:
            yield
        finally:
            self.entered -= 1

    def _inside(self) -> None:
        assert self.entered, "CUDA was called outside its context"
        assert not self.closed, "CUDA was called after its context was gone"

    def stream(self) -> Stream:
        self._inside()
        self.streams.append(Stream(early=self.early and not self.streams))
        return self.streams[-1]

    def handle(self, stream: Stream) -> int:
        return self.streams.index(stream) + 1

    def event(self) -> Event:
        self._inside()
        return Event()

    def pinned(self, size: int) -> Array:
        self._inside()
        return np.full(size, 0xAB, np.uint8)

    def allocate(self, size: int) -> int:
        self._inside()
        if size > self.room:
            raise CudaError(f"out of memory: {size} bytes wanted")
        buffer = np.full(size, 0xCD, np.uint8)
        address = int(buffer.ctypes.data)
        self.memory[address] = buffer
        return address

    def _device(self, address: int, size: int) -> Array:
        assert address in self.memory, "this is no address of device memory"
        assert size <= len(self.memory[address]), "more than the buffer has"
        return self.memory[address][:size]

    def copy_in(self, target: int, source: Array, stream: Stream) -> None:
        def copy() -> None:
            self._part(target, source.nbytes)[:] = source.reshape(-1).view(np.uint8)

        self._inside()
        assert source.flags.c_contiguous
        stream.put(copy)

    def copy_out(self, target: Array, source: int, stream: Stream) -> None:
        def copy() -> None:
            target.reshape(-1).view(np.uint8)[:] = self._device(source, target.nbytes)

        self._inside()
        assert target.flags.c_contiguous
        stream.put(copy)

    def copy_within(self, target: int, source: int, size: int, stream: Stream) -> None:
        def copy() -> None:
            into, out = self._part(target, size), self._part(source, size)
            into[:] = out

        self._inside()
        stream.put(copy)

    def clear(self, target: int, size: int, stream: Stream) -> None:
        def wipe() -> None:
            self._part(target, size)[:] = 0

        self._inside()
        stream.put(wipe)

    def free(self, address: int) -> None:
        self._inside()
        del self.memory[address]

    def _part(self, address: int, size: int) -> Array:
        """Return bytes within a buffer, which need not begin with it."""
        for base, buffer in self.memory.items():
            if base <= address and address + size <= base + len(buffer):
                return buffer[address - base :][:size]
        raise AssertionError("this is no device memory, or more than a buffer has")

    def elapsed_ms(self, begin: Event, end: Event) -> float:
        for event in (begin, end):
            assert event.at is not None
            assert event.at[0].done >= event.at[1], "the event is not over yet"
        return 1.0

    def record(self, event: Event, stream: Stream) -> None:
        self._inside()
        event.at = (stream, len(stream.work))

    def wait(self, stream: Stream, event: Event) -> None:
        assert event.at is not None
        other, upto = event.at
        stream.put(lambda: other.run(upto))

    def finish(self, event: Event) -> None:
        self._inside()
        assert event.at is not None
        event.at[0].run(event.at[1])

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Any:
        assert stream.done == len(stream.work), "recording begins on a busy stream"
        if not self.graphs:
            raise CudaError("cuStreamBeginCapture_v2 failed: not here")
        stream.recording = []
        enqueue()
        recorded, stream.recording = stream.recording, None
        return recorded

    def replay(self, graph: Any, stream: Stream) -> None:
        self._inside()
        self.replays += 1
        for task in graph:
            stream.put(task)

    def close(self) -> None:
        assert not self.entered
        self.closed = True


@dataclass
class FakeContext:
    """Computes ``2 x + 1``, each row's and position's by itself."""

    engine: FakeEngine
    profile: int = -1
    shape: tuple[int, ...] = ()
    addresses: dict[str, int] = field(default_factory=dict)
    workspace: tuple[int, int] = (0, 0)

    def set_optimization_profile_async(self, profile: int, handle: int) -> bool:
        assert handle
        self.profile = profile
        return 0 <= profile < self.engine.num_optimization_profiles

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size == self.engine.device_memory_size_v2
        self.workspace = (memory, size)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == INPUT
        low, _, top = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shape = tuple(shape)
        inside = (a <= n <= b for a, n, b in zip(low, shape, top, strict=True))
        return all(inside)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else [INPUT]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == OUTPUT
        return self.shape

    def get_max_output_size(self, name: str) -> int:
        assert name == OUTPUT
        _, _, top = self.engine.get_tensor_profile_shape(INPUT, self.profile)
        return int(np.prod(top)) * 4

    def execute_async_v3(self, handle: int) -> bool:
        assert self.workspace[0], "no workspace was given"
        count = int(np.prod(self.shape))
        into, out = self.addresses[INPUT], self.addresses[OUTPUT]
        cuda = self.engine.cuda

        def compute() -> None:
            numbers = cuda._device(into, 4 * count).view(np.float32)
            cuda._device(out, 4 * count).view(np.float32)[:] = 2 * numbers + 1

        cuda.streams[handle - 1].put(compute)
        return True


@dataclass
class FakeEngine:
    """A plan of one input and one output."""

    cuda: LazyCuda
    shape: tuple[int, ...]
    profiles: tuple[Profile, ...]
    num_io_tensors: int = 2
    device_memory_size_v2: int = 64
    contexts: int = 0

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_name(self, number: int) -> str:
        return (INPUT, OUTPUT)[number]

    def get_tensor_dtype(self, name: str) -> Any:  # noqa: ARG002
        return np.float32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:  # noqa: ARG002
        return self.shape

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == INPUT else "OUTPUT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        return shape_limits(self.profiles[profile], self.shape, name)

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "USER_MANAGED"
        self.contexts += 1
        return FakeContext(self)


def fake_trt(engine: FakeEngine | None) -> Any:
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine)  # noqa: ARG005
    return SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 1, "__init__": lambda s, n: None}),  # noqa: ARG005
        Runtime=lambda logger: runtime,  # noqa: ARG005
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"),
        nptype=lambda kind: kind,
    )
