"""A GPU's memory on a machine without one: POSIX shared memory, which a CPU's server
maps too.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import time
from pathlib import Path
from typing import Any

from pytest_mlperf.services.kserve.cuda_driver import HANDLE_BYTES
from pytest_mlperf.services.kserve.cuda_driver import CudaDriver
from pytest_mlperf.services.kserve.server_api import HttpServerApi

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies
_NUMBERS = itertools.count()


class HostDriver(CudaDriver):
    """What ``CudaDriver`` does, in the host's memory."""

    def __init__(self, copy_s: float = 0.0) -> None:
        self.device = 0
        self.copies: list[tuple[str, float]] = []
        """``in`` or ``out``, and when it was over (monotonic seconds)."""
        self.live: dict[int, Any] = {}
        """Address of what is allocated or pinned -> its memory."""
        self._names: dict[int, str] = {}
        self._copy_s = copy_s

    def allocate(self, size: int) -> int:
        name = f"pytest-mlperf-test-{os.getpid()}-{next(_NUMBERS)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        descriptor = os.open(FOLDER / name, flags, 0o600)
        os.ftruncate(descriptor, size)
        memory = mmap.mmap(descriptor, size)
        os.close(descriptor)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.live[address], self._names[address] = memory, name
        return address

    def free(self, address: int) -> None:
        del self.live[address]
        (FOLDER / self._names.pop(address)).unlink()

    def share(self, address: int) -> bytes:
        return f"/{self._names[address]}".encode().ljust(HANDLE_BYTES, b"\0")

    def pin(self, size: int) -> tuple[int, memoryview[Any]]:
        memory = bytearray(max(size, 1))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.live[address] = memory
        return address, memoryview(memory)

    def unpin(self, address: int) -> None:
        del self.live[address]

    def copy_in(self, address: int, source: int, size: int) -> None:
        self._copy("in", address, source, size)

    def copy_out(self, target: int, address: int, size: int) -> None:
        self._copy("out", target, address, size)

    def _copy(self, way: str, target: int, source: int, size: int) -> None:
        time.sleep(self._copy_s)
        ctypes.memmove(target, source, size)
        self.copies.append((way, time.monotonic()))


class HostServerApi(HttpServerApi):
    """Has a server map a ``HostDriver``'s regions, over HTTP."""

    def register_cuda_region(
        self, name: str, handle: bytes, device: int, size: int
    ) -> None:
        assert device == 0
        self.register_region(name, handle.rstrip(b"\0").decode(), size)

    def unregister_cuda_region(self, name: str) -> None:
        self.unregister_region(name)
