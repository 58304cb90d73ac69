"""Samples in pinned host memory that the device fetches by index.

Gathering a batch of pictures on the host is a copy of gigabytes a second that no core
keeps up with. Instead the host hands the driver a list of addresses, in one call that
releases the GIL once. Every sample still crosses the bus for every query: nothing stays
on the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import weakref
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array

INDICES = "indices of the library"
"""The only entry of a batch that the device fetches."""
SPANS = "rows of a ragged dataset"
"""The only entry of a batch of runs of rows: [spans, (first, last + 1)]."""
BATCH_SINCE = 12080
"""CUDA runtime that brought ``cudaMemcpyBatchAsync``."""
NO_FAIL_INDEX_SINCE = 13000
"""CUDA runtime from which that call has no parameter for the copy that failed."""
_HOST_TO_DEVICE = 1
_IN_STREAM_ORDER, _BESIDE_COMPUTE = 1, 1
"""``cudaMemcpySrcAccessOrderStream``, ``cudaMemcpyFlagPreferOverlapWithCompute``."""

Copy = Callable[[Array, Array, Array, int], None]
"""(targets, sources, sizes, stream): enqueue one copy an element, all uint64."""


@dataclass(frozen=True, slots=True)
class HostCopier:
    """How this process enqueues many copies."""

    copy: Copy
    name: str


Place = Callable[[Array, int, int, int], tuple[Array, Array, Array]]
"""(what is chosen, address of the target, of the source, bytes of a row) -> targets,
sources and sizes of copies."""


@dataclass(slots=True)
class RegisteredArrays:
    """A dataset's arrays, registered with the driver: copies need no host core."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    _refused: Callable[[], Array | None] = lambda: None
    """A weak reference to an array of the dataset that was refused last."""
    _registering: Any = field(default_factory=threading.Lock)

    def register(self, arrays: Mapping[str, Array]) -> bool:
        """Register arrays once; False where the driver or their layout refuses.

        Streams may call at the same time: the first one registers, the others wait.
        """
        with self._registering:
            if self.arrays is arrays:
                return True
            if self._refused() is next(iter(arrays.values())):
                return False
            self.release()
            usable = find_copier() is not None
            for array in arrays.values():
                if not usable or not array.flags.c_contiguous or not _pin(array):
                    self.release()
                    self._refused = weakref.ref(next(iter(arrays.values())))
                    return False
                self.arrays = {**self.arrays, str(len(self.arrays)): array}
            self.arrays = arrays
            return True

    def fetch(self, indices: Array, targets: Mapping[str, Any], stream: int) -> None:
        """Enqueue the copies of samples into device tensors' first rows.

        Raises ``RuntimeError`` with the driver's code.
        """
        self._copy(find_spans, indices, targets, stream)

    def fetch_spans(
        self, spans: Array, targets: Mapping[str, Any], stream: int
    ) -> None:
        """Enqueue the copies of runs of rows, one after another, into device tensors.

        Raises ``RuntimeError`` with the driver's code.
        """
        self._copy(place_spans, spans, targets, stream)

    def _copy(
        self, place: Place, chosen: Array, targets: Mapping[str, Any], stream: int
    ) -> None:
        copier = find_copier()
        assert copier is not None, "register() has returned False"
        for name, target in targets.items():
            array = self.arrays[name]
            row = array.nbytes // len(array)
            spots = place(chosen, target.data_ptr(), array.ctypes.data, row)
            copier.copy(*spots, stream)

    def release(self) -> None:
        """Unregister the arrays."""
        import torch

        for array in self.arrays.values():
            torch.cuda.cudart().cudaHostUnregister(array.ctypes.data)
        self.arrays = {}


REGISTERED = RegisteredArrays()
"""The only one of the process: memory can be registered once."""


def find_spans(
    indices: Array, target: int, source: int, row: int
) -> tuple[Array, Array, Array]:
    """Return targets, sources and sizes (uint64, bytes) that copy samples to rows.

    Samples that are neighbours in the dataset and in the batch are one copy.
    """
    indices = np.asarray(indices, np.int64)
    starts = np.flatnonzero(np.diff(indices, prepend=indices[:1] - 2) != 1)
    counts = np.diff(starts, append=len(indices))
    firsts = indices[starts]
    spans = np.stack([firsts, firsts + counts], axis=1)
    return place_spans(spans, target, source, row)


def place_spans(
    spans: Array, target: int, source: int, row: int
) -> tuple[Array, Array, Array]:
    """Return targets, sources and sizes (uint64, bytes) that copy runs of rows
    [spans, (first, last + 1)] one after another.
    """
    firsts, counts = spans[:, 0], spans[:, 1] - spans[:, 0]
    targets = ((np.cumsum(counts) - counts) * row).astype(np.uint64) + np.uint64(target)
    sources = (firsts * row).astype(np.uint64) + np.uint64(source)
    return targets, sources, (counts * row).astype(np.uint64)


@cache
def find_copier() -> HostCopier | None:
    """Return the fastest way to enqueue copies that the loaded CUDA runtime has."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace").split()
        name = min({m for m in maps if "libcudart" in m and ".so" in m})
        return choose_copier(name)
    except (OSError, ValueError, AttributeError) as error:
        print(f"samples are gathered on the host: {error!r}", file=sys.stderr)  # noqa: T201
        return None


def choose_copier(path: str) -> HostCopier:
    """Return how to copy with a CUDA runtime, named by its file.

    Raises ``OSError`` or ``AttributeError`` for a file that is not a CUDA runtime.
    """
    # CDLL releases the GIL for the call, once a batch. PyDLL holds it: one copy's call
    # is shorter than releasing it and taking it again.
    runtime, runtime_with_gil = ctypes.CDLL(path), ctypes.PyDLL(path)
    version, driver = ctypes.c_int(), ctypes.c_int()
    runtime.cudaRuntimeGetVersion(ctypes.byref(version))
    runtime.cudaDriverGetVersion(ctypes.byref(driver))
    # A runtime may be newer than its driver, which then refuses what it does not know.
    common = min(version.value, driver.value)
    if common >= BATCH_SINCE and hasattr(runtime, "cudaMemcpyBatchAsync"):
        return HostCopier(
            _copy_in_one_call(runtime, version.value),
            "one cudaMemcpyBatchAsync a batch",
        )
    return HostCopier(
        _copy_one_by_one(runtime_with_gil),
        f"a cudaMemcpyAsync a sample (CUDA {common} has no batches of copies)",
    )


def _copy_in_one_call(library: Any, version: int) -> Copy:
    call = library.cudaMemcpyBatchAsync
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    fail_index = (pointer,) if version < NO_FAIL_INDEX_SINCE else ()
    call.argtypes = (pointer, pointer, pointer, size, pointer, pointer, size,
                     *fail_index, pointer)  # fmt: skip
    call.restype = ctypes.c_int
    # struct cudaMemcpyAttributes: access order, two locations of (type, id), flags.
    order = np.array([_IN_STREAM_ORDER, 0, 0, 0, 0, _BESIDE_COMPUTE], np.int32)
    first = np.zeros(1, np.uintp)

    def copy(targets: Array, sources: Array, sizes: Array, stream: int) -> None:
        failed = np.zeros(1, np.uintp)
        code = call(
            targets.ctypes.data, sources.ctypes.data, sizes.ctypes.data, len(sizes),
            order.ctypes.data, first.ctypes.data, 1,
            *((failed.ctypes.data,) if fail_index else ()), stream,
        )  # fmt: skip
        if code:
            raise RuntimeError(
                f"cudaMemcpyBatchAsync returned {code} for {len(sizes)} copies, "
                "should be 0"
            )

    return copy


def _copy_one_by_one(library: Any) -> Copy:
    call = library.cudaMemcpyAsync
    pointer = ctypes.c_void_p
    call.argtypes = (pointer, pointer, ctypes.c_size_t, ctypes.c_int, pointer)
    call.restype = ctypes.c_int

    def copy(targets: Array, sources: Array, sizes: Array, stream: int) -> None:
        lists = (targets.tolist(), sources.tolist(), sizes.tolist())
        for target, source, size in zip(*lists, strict=True):
            code = call(target, source, size, _HOST_TO_DEVICE, stream)
            if code:
                raise RuntimeError(f"cudaMemcpyAsync returned {code}, should be 0")

    return copy


def _pin(array: Array) -> bool:
    import torch

    code = torch.cuda.cudart().cudaHostRegister(array.ctypes.data, array.nbytes, 0)
    if int(code):
        with contextlib.suppress(RuntimeError):
            torch.zeros(1, device="cuda")  # clears the error before the next call
        return False
    return True
