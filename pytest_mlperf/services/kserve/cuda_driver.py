"""The memory of one GPU, through the driver's own library and ctypes.

libcuda comes with the driver, wherever there is a GPU; a runtime library or the package
cuda-bindings would be a further requirement of one CUDA version. The calls used here
are in every driver since CUDA 4.1.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_mlperf.core.errors import RunRefused

LIBRARY = "libcuda.so.1"
DEVICES = Path("/dev")
"""Where the driver's devices are: ``nvidiactl``; of WSL ``dxg``."""
HANDLE_BYTES = 64
"""CU_IPC_HANDLE_SIZE."""
BLOCK_BYTES = 2 << 20
"""Smaller allocations share a block with others, which another process would then map
too; CUDA's guide advises sizes that are multiples of it."""


class IpcHandle(ctypes.Structure):
    """``CUipcMemHandle``: how another process maps an allocation."""

    _fields_ = (("reserved", ctypes.c_char * HANDLE_BYTES),)


def missing_driver(library: str = LIBRARY, devices: Path = DEVICES) -> str | None:
    """Return what a machine lacks for CUDA, or None.

    It makes no context, so that processes which are forked later may make theirs.
    """
    remedy = (
        "use a machine with an NVIDIA GPU and its driver, or shared_memory=system or "
        "none"
    )
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return (
            f"shared_memory=cuda needs CUDA's driver on this machine, but {library} "
            f"cannot be loaded ({error}); {remedy}"
        )
    if not any((devices / name).exists() for name in ("nvidiactl", "dxg")):
        return (
            f"shared_memory=cuda needs a GPU on this machine, but {devices} has no "
            f"nvidiactl; {remedy}"
        )
    return None


class CudaDriver:
    """The first GPU that this process sees, in its primary context.

    Methods raise ``RunRefused`` with CUDA's name of the error. Any thread may call.
    """

    def __init__(self, library: str = LIBRARY, device: int = 0) -> None:
        if problem := missing_driver(library):
            raise RunRefused(problem)
        self.device = device
        """By CUDA's number in this process (CUDA_VISIBLE_DEVICES counts)."""
        self._library = ctypes.CDLL(library)
        self._context = ctypes.c_void_p()
        self._handle = ctypes.c_int()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(self._handle), ctypes.c_int(device))
        retain = "cuDevicePrimaryCtxRetain"
        self._call(retain, ctypes.byref(self._context), self._handle)

    def allocate(self, size: int) -> int:
        """Return the address of at least ``size`` bytes of the GPU, a whole block."""
        address = ctypes.c_uint64()
        whole = -(-max(size, 1) // BLOCK_BYTES) * BLOCK_BYTES
        self._enter()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(whole))
        return address.value

    def free(self, address: int) -> None:
        """Release what ``allocate`` gave."""
        self._enter()
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def share(self, address: int) -> bytes:
        """Return the handle by which another process maps an allocation."""
        handle = IpcHandle()
        self._enter()
        self._call("cuIpcGetMemHandle", ctypes.byref(handle), ctypes.c_uint64(address))
        return bytes(handle)

    def pin(self, size: int) -> tuple[int, memoryview[Any]]:
        """Return page-locked host memory: its address, and a view of its bytes."""
        address = ctypes.c_void_p()
        whole = ctypes.c_size_t(max(size, 1))
        self._enter()
        self._call("cuMemHostAlloc", ctypes.byref(address), whole, ctypes.c_uint(0))
        assert address.value, "CUDA returned success"
        array = (ctypes.c_char * max(size, 1)).from_address(address.value)
        return address.value, memoryview(array).cast("B")

    def unpin(self, address: int) -> None:
        """Release what ``pin`` gave; nobody may read its view any more."""
        self._enter()
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def copy_in(self, address: int, source: int, size: int) -> None:
        """Copy host memory to the GPU; it is there when this returns.

        That is so of page-locked memory; a part of other memory may be on its way.
        """
        target, host = ctypes.c_uint64(address), ctypes.c_void_p(source)
        self._enter()
        self._call("cuMemcpyHtoD_v2", target, host, ctypes.c_size_t(size))

    def copy_out(self, target: int, address: int, size: int) -> None:
        """Copy the GPU's memory to the host."""
        host, source = ctypes.c_void_p(target), ctypes.c_uint64(address)
        self._enter()
        self._call("cuMemcpyDtoH_v2", host, source, ctypes.c_size_t(size))

    def close(self) -> None:
        """Let go of the context; allocations are to be freed before."""
        self._call("cuDevicePrimaryCtxRelease", self._handle)

    def _enter(self) -> None:
        # A context is current in one thread, and several threads copy.
        self._call("cuCtxSetCurrent", self._context)

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self._library, name)
        status = function(*arguments)
        if not status:
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorName(status, ctypes.byref(text))
        error = (text.value or b"an error").decode()
        raise RunRefused(
            f"{name} of CUDA's driver returned {error} ({status}), but should succeed, "
            f"on GPU {self.device} of this process; look at nvidia-smi (memory, other "
            "processes, Xid errors), or use shared_memory=system"
        )
