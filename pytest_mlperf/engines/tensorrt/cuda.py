"""CUDA as the tensorrt engine uses it: pycuda, and the driver's graphs through ctypes.

pycuda has no CUDA graphs, so capture and launch call the driver library directly, in
the context that pycuda made current.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from typing import Protocol

from pytest_mlperf.api.samples import Array

CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other streams go on while one is recorded."""


class CudaError(RuntimeError):
    """A call of the driver failed."""


class PlanRunFailed(Exception):
    """TensorRT or CUDA refused something at run time; the text names the call."""


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Turn what CUDA raises into ``PlanRunFailed`` that names the action."""
    try:
        yield
    except (CudaError, RuntimeError, MemoryError) as error:
        text = f"{action}: {type(error).__name__}: {error}"
        raise PlanRunFailed(text) from error


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A usable GPU."""

    name: str
    capability: tuple[int, int]
    memory: int
    """Bytes in all."""

    def __str__(self) -> str:
        return f"{self.name} {self.capability[0]}.{self.capability[1]}"


class Cuda(Protocol):
    """One context and what is done in it. Streams, events and graphs are opaque."""

    def current(self) -> Any:
        """Return a context manager: in it, this thread works in the context."""

    def stream(self) -> Any: ...

    def handle(self, stream: Any) -> int:
        """Return a stream as TensorRT takes it."""

    def event(self) -> Any: ...

    def pinned(self, size: int) -> Array:
        """Return page-locked host memory, uint8 [size]."""

    def allocate(self, size: int) -> int:
        """Return the address of device memory; it lives until ``free`` or ``close``."""

    def copy_in(self, target: int, source: Array, stream: Any) -> None: ...

    def copy_out(self, target: Array, source: int, stream: Any) -> None: ...

    def copy_within(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy device memory to device memory."""

    def clear(self, target: int, size: int, stream: Any) -> None:
        """Set device memory to zero."""

    def free(self, address: int) -> None:
        """Release what ``allocate`` returned, before ``close``."""

    def record(self, event: Any, stream: Any) -> None: ...

    def elapsed_ms(self, begin: Any, end: Any) -> float:
        """Return the device's time between two events that are over."""

    def wait(self, stream: Any, event: Any) -> None:
        """Let what is enqueued next on a stream start after an event."""

    def finish(self, event: Any) -> None:
        """Block the host until an event."""

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Any:
        """Record what ``enqueue`` puts on a stream. Raises ``CudaError``."""

    def replay(self, graph: Any, stream: Any) -> None: ...

    def close(self) -> None:
        """Release memory, graphs and context."""


def find_device() -> CudaDevice | str:
    """Return the first visible GPU, or why there is none."""
    try:
        import pycuda.driver as driver

        driver.init()
        if not driver.Device.count():
            return "the driver lists none; see CUDA_VISIBLE_DEVICES and nvidia-smi"
        device = driver.Device(0)
        major, minor = device.compute_capability()
        return CudaDevice(device.name(), (major, minor), device.total_memory())
    except ImportError as error:
        return f"pycuda cannot be imported: {error}"
    except Exception as error:  # noqa: BLE001 - pycuda's own, known once it is imported
        return f"the CUDA driver says: {error}"


class PyCuda:
    """A context of its own on the first visible device."""

    def __init__(self) -> None:
        import pycuda.driver as driver

        self._driver = driver
        try:
            driver.init()
            # A thread that waits sleeps, and leaves GIL and core to the others.
            flags = driver.ctx_flags.SCHED_BLOCKING_SYNC
            self._context = driver.Device(0).make_context(flags)
        except driver.Error as error:
            raise CudaError(f"no context: {error}") from error
        self._context.pop()
        self._memory: list[Any] = []
        self._graphs: list[Any] = []
        self._library = ctypes.CDLL("libcuda.so.1")

    @contextmanager
    def current(self) -> Iterator[None]:
        # pycuda keeps a stack of contexts for each thread: all of them enter it.
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise CudaError(f"{type(error).__name__}: {error}") from error
        finally:
            self._context.pop()

    def stream(self) -> Any:
        return self._driver.Stream()

    def handle(self, stream: Any) -> int:
        return int(stream.handle)

    def event(self) -> Any:
        return self._driver.Event(self._driver.event_flags.BLOCKING_SYNC)

    def pinned(self, size: int) -> Array:
        import numpy as np

        array: Array = self._driver.pagelocked_empty(size, np.uint8)
        return array

    def allocate(self, size: int) -> int:
        try:
            memory = self._driver.mem_alloc(size)
        except self._driver.MemoryError as error:
            raise CudaError(f"out of memory: {size:,} bytes wanted: {error}") from error
        self._memory.append(memory)
        return int(memory)

    def copy_in(self, target: int, source: Array, stream: Any) -> None:
        self._driver.memcpy_htod_async(target, source, stream)

    def copy_out(self, target: Array, source: int, stream: Any) -> None:
        self._driver.memcpy_dtoh_async(target, source, stream)

    def copy_within(self, target: int, source: int, size: int, stream: Any) -> None:
        self._driver.memcpy_dtod_async(target, source, size, stream)

    def clear(self, target: int, size: int, stream: Any) -> None:
        self._driver.memset_d8_async(target, 0, size, stream)

    def free(self, address: int) -> None:
        for memory in [m for m in self._memory if int(m) == address]:
            self._memory.remove(memory)
            memory.free()

    def record(self, event: Any, stream: Any) -> None:
        event.record(stream)

    def elapsed_ms(self, begin: Any, end: Any) -> float:
        return float(begin.time_till(end))

    def wait(self, stream: Any, event: Any) -> None:
        stream.wait_for_event(event)

    def finish(self, event: Any) -> None:
        event.synchronize()

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Any:
        handle, graph = ctypes.c_void_p(self.handle(stream)), ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", handle, CAPTURE_THREAD_LOCAL)
        try:
            enqueue()
        finally:
            # Also after a failure: a stream that still records cannot be used.
            status = self._library.cuStreamEndCapture(handle, ctypes.byref(graph))
        self._check("cuStreamEndCapture", status)
        executable, flags = ctypes.c_void_p(), ctypes.c_ulonglong(0)
        try:
            name = "cuGraphInstantiateWithFlags"
            self._call(name, ctypes.byref(executable), graph, flags)
        finally:
            self._library.cuGraphDestroy(graph)
        self._graphs.append(executable)
        return executable

    def replay(self, graph: Any, stream: Any) -> None:
        self._call("cuGraphLaunch", graph, ctypes.c_void_p(self.handle(stream)))

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, status: int) -> None:
        if not status:
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(status, ctypes.byref(text))
        raise CudaError(f"{name} failed: {(text.value or b'?').decode()} ({status})")

    def close(self) -> None:
        """Release everything; in the thread that made the context, as pycuda asks."""
        with self.current():
            for graph in self._graphs:
                self._library.cuGraphExecDestroy(graph)
            for memory in self._memory:
                memory.free()
        self._graphs.clear()
        self._memory.clear()
        self._context.detach()
