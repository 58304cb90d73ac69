"""Requests whose tensors lie in POSIX shared memory: the server is on this machine.

Every request has room for its outputs too. Two of one request that are outstanding at
once share it: both answers are of the same samples.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.server_api import ServerRefusal
from pytest_mlperf.services.kserve.tensors import TYPES
from pytest_mlperf.services.kserve.tensors import Rooms

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies
_NUMBERS = itertools.count()

Parts = dict[str, Mapping[str, Any]]
"""Tensor -> the parameters that say where it is."""


def measure_outputs(specs: Sequence[Mapping[str, Any]], batch: Batch) -> dict[str, int]:
    """Return the bytes of every output of a request, by what the model says of them.

    A free size is the request's own: its rows, or the length of its sequences. Where
    that is too little, the server refuses the test request.
    """
    arrays = [*batch.values()]
    length = max((array.shape[1] for array in arrays if array.ndim > 1), default=1)
    sizes = {}
    for one in specs:
        shape = [int(size) for size in one["shape"]]
        shape = [len(arrays[0]), *(length if n < 0 else n for n in shape[1:])]
        sizes[str(one["name"])] = math.prod(shape) * TYPES[one["datatype"]].itemsize
    return sizes


class RequestRegion:
    """The tensors of some requests, in memory that the servers have mapped.

    The name is removed once they have, so that nothing is left behind by a crash.
    """

    def __init__(
        self,
        apis: Sequence[ServerApi],
        batches: Mapping[int, Batch],
        specs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write the tensors and register them; raises ``RunRefused``.

        ``specs``: of the outputs, in the model's metadata; empty: they have no room.
        """
        self.inputs: dict[int, Parts] = {}
        """Request -> where its inputs are."""
        self.outputs: dict[int, Parts] = {}
        """Request -> where its outputs are to be."""
        self.rooms: dict[int, Rooms] = {}
        """Request -> the memory of its outputs."""
        self._apis = apis
        self._open = set(batches)
        self._name = f"pytest-mlperf-{os.getpid()}-{next(_NUMBERS)}"
        needs = {i: measure_outputs(specs, batch) for i, batch in batches.items()}
        sizes = [a.nbytes for batch in batches.values() for a in batch.values()]
        sizes += [size for need in needs.values() for size in need.values()]
        size = max(1, sum(sizes))
        path = FOLDER / self._name
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        descriptor = os.open(path, flags, 0o600)
        try:
            self._reserve(descriptor, size)
            self._place(mmap.mmap(descriptor, size), batches, needs)
            for api in apis:
                self._register(api, size)
        finally:
            os.close(descriptor)
            path.unlink()

    def _reserve(self, descriptor: int, size: int) -> None:
        try:
            # Not ftruncate: where memory lacks, a later write would end the process.
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            raise RunRefused(
                f"{FOLDER}: no room for {size / 1e6:,.1f} MB of tensors "
                f"({error.strerror}); enlarge it (docker run --shm-size), or leave out "
                "shared_memory=system"
            ) from None

    def _place(
        self,
        memory: mmap.mmap,
        batches: Mapping[int, Batch],
        needs: Mapping[int, Mapping[str, int]],
    ) -> None:
        at = 0

        def take(size: int) -> Mapping[str, Any]:
            nonlocal at
            at += size
            return {
                "shared_memory_region": self._name,
                "shared_memory_offset": at - size,
                "shared_memory_byte_size": size,
            }

        for index, batch in batches.items():
            memory.seek(at)
            self.inputs[index] = {n: take(a.nbytes) for n, a in batch.items()}
            for array in batch.values():
                memory.write(array.tobytes())
            rooms = {}
            own = self.outputs[index] = {}
            for name, size in needs[index].items():
                rooms[name] = memoryview(memory)[at : at + size]
                own[name] = take(size)
            self.rooms[index] = rooms

    def _register(self, api: ServerApi, size: int) -> None:
        try:
            api.register_region(self._name, f"/{self._name}", size)
        except ServerRefusal as error:
            raise RunRefused(
                f"{api.url}: the server cannot map shared memory of this machine "
                f"({error}); start it here, or leave out shared_memory=system"
            ) from None

    def release(self, index: int) -> bool:
        """Let go of a request's tensors; return whether they were the last ones.

        The servers forget the region then.
        """
        self._open.discard(index)
        if self._open:
            return False
        for api in self._apis:
            with suppress(RunRefused, ServerRefusal):  # the server may have ended
                api.unregister_region(self._name)
        return True
