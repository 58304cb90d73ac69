"""A plan whose execution context launches a real kernel, for a machine with a GPU.

Stands where TensorRT would: everything else (contexts, streams, pinned memory, events,
graphs) is the engine's own code, through pycuda and the driver.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.engines.tensorrt.cuda import PyCuda
from pytest_mlperf.engines.tensorrt.runtime import Plan
from pytest_mlperf.engines.tensorrt.settings import Profile
from tests.support.lazy_cuda import INPUT
from tests.support.lazy_cuda import OUTPUT
from tests.support.lazy_cuda import FakeContext
from tests.support.lazy_cuda import FakeEngine
from tests.support.lazy_cuda import fake_trt

SOURCE = r"""
extern "C" __global__ void twice_and_one(const float *in, float *out, int n, int spin)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    long long until = clock64() + spin;  // long enough that a missing wait shows
    while (clock64() < until) { }
    if (i < n) out[i] = 2.0f * in[i] + 1.0f;
}
"""
SPIN = 200_000


@dataclass
class KernelContext(FakeContext):
    """Computes ``2 x + 1`` by a kernel on the stream it is given."""

    def execute_async_v3(self, handle: int) -> bool:
        assert self.workspace[0], "no workspace was given"
        engine = self.engine
        assert isinstance(engine, KernelEngine)
        count = int(np.prod(self.shape))
        values = (
            ctypes.c_void_p(self.addresses[INPUT]),
            ctypes.c_void_p(self.addresses[OUTPUT]),
            ctypes.c_int(count),
            ctypes.c_int(SPIN),
        )
        pointers = (ctypes.c_void_p * 4)(
            *(ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values)
        )
        status = engine.library.cuLaunchKernel(
            engine.function, -(-count // 256), 1, 1, 256, 1, 1, 0,
            ctypes.c_void_p(handle), pointers, None,
        )  # fmt: skip
        return int(status) == 0


@dataclass
class KernelEngine(FakeEngine):
    """A plan of one kernel, loaded into the current context."""

    library: Any = None
    function: Any = field(default_factory=ctypes.c_void_p)

    def load(self) -> None:
        from pycuda.compiler import compile as compile_kernel

        self.library = ctypes.CDLL("libcuda.so.1")
        module = ctypes.c_void_p()
        image = compile_kernel(SOURCE, no_extern_c=True)
        for name, *arguments in (
            ("cuModuleLoadData", ctypes.byref(module), image),
            ("cuModuleGetFunction", ctypes.byref(self.function), module,
             b"twice_and_one"),
        ):  # fmt: skip
            status = getattr(self.library, name)(*arguments)
            assert status == 0, f"{name} failed: {status}"

    def create_execution_context(self, strategy: str) -> FakeContext:
        assert strategy == "USER_MANAGED"
        self.contexts += 1
        return KernelContext(self)


def kernel_plan(
    shape: tuple[int, ...], profiles: tuple[Profile, ...], *, graphs: bool
) -> Plan:
    """Return a plan in a new context of the first GPU."""
    cuda = PyCuda()
    with cuda.current():
        engine = KernelEngine(cuda, shape, profiles)  # type: ignore[arg-type]
        engine.load()
        trt = fake_trt(engine)
        return Plan.deserialize(trt, cuda, b"plan", cuda_graphs=graphs)
