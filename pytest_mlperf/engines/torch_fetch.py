"""Samples in pinned host memory that the device fetches by index.

Gathering a batch of pictures on the host is a copy of gigabytes a second that no core
keeps up with; here the host enqueues one transfer a sample, or one for a run of
neighbours. Every sample still crosses the bus for every query: nothing is kept on the
device.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.workload import Array

INDICES = "indices of the library"
"""The one entry of a batch that is to be fetched."""
_HOST_TO_DEVICE = 1


@dataclass(slots=True)
class Library:
    """A dataset's arrays, registered with the driver: copies need no host core."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    _copy: Any = None
    _refused: int = 0

    def hold(self, arrays: Mapping[str, Array]) -> bool:
        """Register arrays once; False where the driver or their layout refuses."""
        if self.arrays is arrays:
            return True
        if self._refused == id(arrays):
            return False
        self.release()
        self._copy = self._copy or _copy_call()
        for array in arrays.values():
            if self._copy is None or not array.flags.c_contiguous or not _pin(array):
                self.release()
                self._refused = id(arrays)
                return False
            self.arrays = {**self.arrays, str(len(self.arrays)): array}
        self.arrays = arrays
        return True

    def fetch(self, chosen: Array, places: Mapping[str, Any], stream: int) -> None:
        """Enqueue the copies of chosen samples into device tensors' first rows.

        Raises ``RuntimeError`` with the driver's code.
        """
        for name, place in places.items():
            array = self.arrays[name]
            row = array.nbytes // len(array)
            source, target = array.ctypes.data, place.data_ptr()
            for start, first, count in runs(chosen):
                code = self._copy(
                    target + start * row,
                    source + first * row,
                    count * row,
                    _HOST_TO_DEVICE,
                    stream,
                )
                if code:
                    raise RuntimeError(f"cudaMemcpyAsync returned {code}, should be 0")

    def release(self) -> None:
        """Give the arrays back to the system."""
        import torch

        for array in self.arrays.values():
            torch.cuda.cudart().cudaHostUnregister(array.ctypes.data)
        self.arrays = {}


LIBRARY = Library()
"""The process's one: memory can be registered once only."""


def runs(chosen: Array) -> list[tuple[int, int, int]]:
    """Return (place, first sample, count) of each run of neighbouring samples."""
    if not len(chosen):
        return []
    cuts = np.flatnonzero(np.diff(chosen) != 1) + 1
    starts = np.concatenate([[0], cuts])
    counts = np.diff(np.concatenate([starts, [len(chosen)]]))
    return list(
        zip(starts.tolist(), chosen[starts].tolist(), counts.tolist(), strict=True)
    )


def _pin(array: Array) -> bool:
    import torch

    code = torch.cuda.cudart().cudaHostRegister(array.ctypes.data, array.nbytes, 0)
    if int(code):
        with contextlib.suppress(RuntimeError):
            torch.zeros(1, device="cuda")  # takes the error away from the next call
        return False
    return True


def _copy_call() -> Any:
    """Return ``cudaMemcpyAsync`` of the runtime that PyTorch has loaded, or None."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace").split()
        names = sorted({m for m in maps if "libcudart" in m and ".so" in m})
        # PyDLL: the call is shorter than giving up the GIL and taking it again.
        call = ctypes.PyDLL(names[0]).cudaMemcpyAsync
    except (OSError, IndexError, AttributeError) as error:
        print(f"samples are gathered on the host: {error!r}", file=sys.stderr)  # noqa: T201
        return None
    call.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
        ctypes.c_void_p,
    )  # fmt: skip
    call.restype = ctypes.c_int
    return call
