"""The null engine: constant answers, to measure the suite itself."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

import numpy as np

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch


@dataclass(slots=True)
class NullEngine:
    """Returns one preallocated answer for every sample."""

    blank: Array
    answers: bool = True
    _by_size: dict[int, Array] = field(default_factory=dict)

    def infer(self, batch: Batch, size: int) -> Array:  # noqa: ARG002 - protocol
        # The same array object for the same size lets the SUT reuse its address.
        rows = self._by_size.get(size)
        if rows is None:
            rows = np.repeat(self.blank[None], size, axis=0)
            self._by_size[size] = rows
        return rows

    def close(self) -> None:
        self._by_size.clear()


@dataclass(frozen=True, slots=True)
class NullProvider:
    """Builds nothing and is available everywhere."""

    precisions: tuple[str, ...] = ("fp32", "int8")
    batches: tuple[int, ...] = (1024,)
    answers: bool = True

    def unavailable(self) -> str | None:
        return None

    def build(self, request: BuildRequest) -> Build:
        digest = content_hash({"engine": "null", "workload": request.workload.digest})
        return Build(digest, None, request, "nothing to build")

    def open(self, build: Build, threads: int) -> NullEngine:  # noqa: ARG002 - protocol
        return NullEngine(np.ascontiguousarray(build.request.workload.blank))

    def layouts(self, cpus: int) -> tuple[Streams, ...]:  # noqa: ARG002 - protocol
        # One stream: its work is all Python, and threads would share one GIL.
        return (Streams(1, 1),)


NULL = NullProvider()
