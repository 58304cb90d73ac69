"""Engines whose samples and results stay where they are: a store in plain memory.

Named by dotted spec (``tests.support.resident_doubles:PLACING``), as in ``doubles``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.device_dataset import DeviceDataset
from pytest_mlperf.api.device_dataset import Picked
from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.engine import Streams
from pytest_mlperf.api.engine import content_hash
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch

BOTH = frozenset({"start_from_device", "end_on_device"})


@dataclass
class Shelf:
    """A store in plain memory that counts what is brought."""

    kept: list[Batch] = field(default_factory=list)
    drops: int = 0

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        self.kept = list(batches)
        return 8 * count, 8.0

    def drop(self) -> None:
        self.drops += 1
        self.kept = []

    def rows(self, rows: Array) -> Array:
        arrays = [next(iter(batch.values())) for batch in self.kept]
        found: Array = np.concatenate(arrays)[rows]
        return found


@dataclass
class Outputs:
    """Results that nobody has fetched yet."""

    values: Array
    broken: bool = False

    def fetch(self) -> Sequence[Array]:
        os.write(2, b"fetched\n")
        if self.broken:
            raise RuntimeError("the copy out failed")
        return [self.values]


@dataclass(slots=True)
class Stream:
    """Answers with the samples' numbers, from the shelf where they lie there."""

    ends_on_device: bool
    broken: bool
    answers: bool = False
    facts: Mapping[str, str] = field(default_factory=lambda: {"graphs": "none"})

    def infer(self, batch: Batch, size: int) -> Any:
        if isinstance(batch, Picked):
            os.write(2, b"picked\n")
            values = batch.store.rows(batch.rows)
        else:
            values = next(iter(batch.values()))
        values = values[:size, :1].copy()
        return Outputs(values, self.broken) if self.ends_on_device else [values]

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Placing:
    """A provider that keeps samples and results on its device."""

    broken: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    batches: tuple[int, ...] = (1, 8)
    answers: bool = False
    on_device: frozenset[str] = BOTH

    def unavailable(self) -> str | None:
        return None

    def build(self, request: BuildRequest) -> Build:
        digest = content_hash({"engine": "placing", "data": request.workload.digest})
        return Build(digest, None, request, "nothing to build")

    def place(self, build: Build) -> DeviceDataset:
        return DeviceDataset(build.request.workload.dataset, Shelf())

    def open(self, build: Build, threads: int) -> Stream:  # noqa: ARG002
        return Stream(build.request.residency.end, self.broken)

    def layouts(self, cpus: int) -> tuple[Streams, ...]:  # noqa: ARG002
        return (Streams(1, 1),)


PLACING = Placing()
BROKEN = Placing(broken=True)
