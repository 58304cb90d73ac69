"""Rows of all tables in host memory that the device reads over the bus."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.embedding import EmbeddingTables
from pytest_mlperf.api.errors import BuildFailed

_PORTABLE_AND_MAPPED = 1 | 2
"""``cudaHostRegisterPortable | cudaHostRegisterMapped``."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class HostRows:
    """A tensor [rows, dimension] and where the device finds it.

    The memory is the driver's until this is let go: what is unmapped before it is
    unregistered would fault when the next model's rows get the same addresses.
    """

    tensor: Any
    address: int
    """Of the first row, as kernels have it."""
    _release: weakref.finalize[..., Any] | None = None

    def close(self) -> None:
        """Unregister the memory. Nothing may run on the device any more."""
        if self._release is not None:
            self._release()


def _unregister(address: int, room: mmap.mmap) -> None:  # noqa: ARG001 - kept till here
    import torch

    torch.cuda.synchronize()
    torch.cuda.cudart().cudaHostUnregister(address)


def pin_rows(rows: int, dimension: int, dtype: Any) -> HostRows:
    """Allocate pinned memory of exactly that size.

    PyTorch's own pinned memory would be rounded up to a power of two. Raises
    ``BuildFailed`` where the host has not that much or the driver refuses.
    """
    import torch

    size = rows * dimension * dtype.itemsize
    try:
        room = mmap.mmap(-1, size)
    except OSError as error:
        raise BuildFailed(
            f"the host has no {size / 1e9:.1f} GB for {rows:,} rows: {error}; take "
            "fewer rows or a smaller type"
        ) from error
    room.madvise(mmap.MADV_HUGEPAGE)
    flat = torch.frombuffer(room, dtype=dtype)
    # Many threads touch the pages before the driver does, with one.
    flat.zero_()
    code = int(
        torch.cuda.cudart().cudaHostRegister(
            flat.data_ptr(), size, _PORTABLE_AND_MAPPED
        )
    )
    if code:
        raise BuildFailed(
            f"the driver registers no {size / 1e9:.1f} GB of host memory (code "
            f"{code}, should be 0); see ulimit -l and the memory of the machine"
        )
    tensor = flat.view(rows, dimension)
    pinned = HostRows(tensor, find_device_address(tensor.data_ptr()))
    pinned._release = weakref.finalize(pinned, _unregister, tensor.data_ptr(), room)
    # Not at exit: the context is gone by then, and the registration with it.
    pinned._release.atexit = False
    return pinned


def load_rows(tables: EmbeddingTables, dtype: Any) -> HostRows:
    """Copy a table file into pinned memory, converted; a shorter file repeats."""
    stored = np.load(tables.path, mmap_mode="r")
    pinned = pin_rows(tables.rows, stored.shape[1], dtype)
    copy_rows(stored, pinned.tensor)
    return pinned


def copy_rows(stored: NDArray[Any], out: Any) -> None:
    """Fill a tensor [rows, dimension]; of fewer stored rows, each comes again."""
    import torch

    step = min(len(stored), max(1, (1 << 28) // stored.shape[1]))
    first = 0
    while first < len(out):
        place = first % len(stored)
        # Never beyond the end of what is stored.
        count = min(step, len(stored) - place, len(out) - first)
        part = torch.from_numpy(np.array(stored[place : place + count]))
        out[first : first + count] = part
        first += count


def find_device_address(address: int) -> int:
    """Return where the device sees registered memory.

    Raises ``BuildFailed`` for memory that is not registered.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    found = ctypes.c_uint64()
    code = driver.cuMemHostGetDevicePointer_v2(
        ctypes.byref(found), ctypes.c_void_p(address), 0
    )
    if code:
        raise BuildFailed(
            f"the device cannot read host memory at {address:#x} "
            f"(cuMemHostGetDevicePointer returned {code}, should be 0)"
        )
    return found.value
