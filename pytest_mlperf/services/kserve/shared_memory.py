"""Requests whose tensors lie in POSIX shared memory: the server is on this machine.

Only inputs do. An output would need room of its own for every outstanding request.
"""

from __future__ import annotations

import itertools
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

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lies
_NUMBERS = itertools.count()

Parts = dict[str, Mapping[str, Any]]
"""Input -> the parameters that say where it is."""


class InputRegion:
    """The tensors of some requests, in memory that the servers have mapped.

    The name is removed once they have, so that nothing is left behind by a crash.
    """

    def __init__(self, apis: Sequence[ServerApi], batches: Mapping[int, Batch]) -> None:
        """Write the tensors and register them; raises ``RunRefused``."""
        self.parts: dict[int, Parts] = {}
        """Request -> where its inputs are."""
        self._apis = apis
        self._open = set(batches)
        self._name = f"pytest-mlperf-{os.getpid()}-{next(_NUMBERS)}"
        sizes = (a.nbytes for batch in batches.values() for a in batch.values())
        size = max(1, sum(sizes))
        path = FOLDER / self._name
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR
        descriptor = os.open(path, flags, 0o600)
        try:
            os.ftruncate(descriptor, size)
            with mmap.mmap(descriptor, size) as memory:
                self._write(memory, batches)
            for api in apis:
                self._register(api, size)
        finally:
            os.close(descriptor)
            path.unlink()

    def _write(self, memory: mmap.mmap, batches: Mapping[int, Batch]) -> None:
        for index, batch in batches.items():
            own = self.parts[index] = {}
            for name, array in batch.items():
                own[name] = {
                    "shared_memory_region": self._name,
                    "shared_memory_offset": memory.tell(),
                    "shared_memory_byte_size": array.nbytes,
                }
                memory.write(array.tobytes())

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
