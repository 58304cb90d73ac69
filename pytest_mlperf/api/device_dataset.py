"""Samples that lie on the device from LoadGen's load on, and results that stay there.

The engine's part is to keep arrays (``Store``) and to read a batch from them; here is
what does not depend on how: which samples are there, and what a workload looks like
whose dataset is kept so.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.engine import Build
from pytest_mlperf.api.engine import EngineProvider
from pytest_mlperf.api.engine import KeepsSamplesOnDevice
from pytest_mlperf.api.errors import BuildFailed
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import RunsModel
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.core.residency.rules import Probe

CHUNK = 256
"""Samples that are brought to the device together: a host need not hold all twice."""


class Store(Protocol):
    """Device memory for a set of samples; an engine's."""

    def keep(self, batches: Iterator[Batch], count: int) -> tuple[int, float]:
        """Copy ``count`` samples, which come in ``batches``, in their order.

        Returns their bytes on the device, and the bytes of one element of the widest
        type. Raises ``BuildFailed`` for samples that cannot be kept.
        """

    def drop(self) -> None:
        """Give the memory back."""


class Picked(dict[str, Array]):
    """A batch of samples that are there already: only their rows are in it."""

    def __init__(self, store: Any, rows: NDArray[np.int64], longest: int = 0) -> None:
        super().__init__(rows=rows)
        self.store = store
        self.rows = rows
        self.longest = longest
        """Of its sequences; 0 where samples have no length."""


class DeviceDataset:
    """A dataset whose loaded samples lie on the device, and nowhere else for a run."""

    def __init__(self, dataset: Dataset, store: Store) -> None:
        self._dataset, self._store = dataset, store
        self._row = np.full(dataset.total, -1, np.int64)
        self.type_bytes = 1.0
        self.amount = ""
        """What the largest load so far put there, for people."""
        self._most = 0

    @property
    def total(self) -> int:
        return self._dataset.total

    @property
    def performance_count(self) -> int:
        return self._dataset.performance_count

    @property
    def lengths(self) -> NDArray[np.int32] | None:
        return self._dataset.lengths

    def load(self, indices: Sequence[int]) -> None:
        """Copy samples to the device, once; untimed."""
        self.unload(())
        count = len(indices)
        size, self.type_bytes = self._store.keep(self._batches(indices), count)
        self._row[np.asarray(indices)] = np.arange(count)
        if size >= self._most:
            self._most = size
            self.amount = f"{count:,} samples, {size:,} bytes"

    def unload(self, indices: Sequence[int]) -> None:  # noqa: ARG002 - all of them
        """Give the device's memory back: LoadGen has one set at a time."""
        self._row[:] = -1
        self._store.drop()

    def gather(self, indices: Sequence[int]) -> dict[str, Array]:
        """Return where a batch lies. Raises ``KeyError`` for a sample not loaded."""
        wanted = np.asarray(indices)
        rows = self._row[wanted]
        if len(rows) and rows.min() < 0:
            missing = indices[int(rows.argmin())]
            raise KeyError(f"sample {missing} is not on the device: load it first")
        lengths = self._dataset.lengths
        longest = 0 if lengths is None else int(lengths[wanted].max())
        return Picked(self._store, rows, longest)

    def _batches(self, indices: Sequence[int]) -> Iterator[Batch]:
        for start in range(0, len(indices), CHUNK):
            part = indices[start : start + CHUNK]
            self._dataset.load(part)
            yield self._dataset.gather(part)
            self._dataset.unload(part)


class PlacedWorkload:
    """A workload whose dataset is a ``DeviceDataset``; all else is the workload's."""

    def __init__(self, workload: TensorWorkload, dataset: Dataset) -> None:
        self._workload, self.dataset = workload, dataset
        self.respond = workload.respond

    @property
    def kind(self) -> str:
        return self._workload.kind

    @property
    def title(self) -> str:
        return self._workload.title

    @property
    def digest(self) -> str:
        return self._workload.digest

    @property
    def model(self) -> ModelFile | None:
        return self._workload.model

    @property
    def reference(self) -> Mapping[str, float]:
        return self._workload.reference

    @property
    def blank(self) -> Array:
        return self._workload.blank

    def score(self, answers: Mapping[int, bytes]) -> dict[str, float]:
        return self._workload.score(answers)

    def accuracy_text(self, metrics: Mapping[str, float]) -> str:
        return self._workload.accuracy_text(metrics)


def place_workload(provider: EngineProvider, build: Build) -> TensorWorkload:
    """Return a build's workload, on the device where the request asks for it.

    Raises ``BuildFailed`` for an engine or a dataset that cannot.
    """
    workload, residency = build.request.workload, build.request.residency
    able = frozenset[str]()
    if isinstance(provider, KeepsSamplesOnDevice):
        able = provider.on_device
    if lacking := [flag for flag in residency.flags if flag not in able]:
        raise BuildFailed(
            f"the engine cannot do {' and '.join(lacking)} (it can: "
            f"{', '.join(sorted(able)) or 'neither'}); use --mlperf-engine torch or "
            "tensorrt, or leave the option away"
        )
    if not residency.start:
        return workload
    if isinstance(workload, RunsModel):
        raise BuildFailed(
            f"{workload.title} cuts its samples on the host, run by run, so that they "
            "cannot start from the device; leave --mlperf-start-from-device away"
        )
    assert isinstance(provider, KeepsSamplesOnDevice), "it can start from the device"
    return PlacedWorkload(workload, provider.place(build))


@dataclass(frozen=True, slots=True)
class ResidentSamples:
    """What lay on a device in a run, and how fast it exchanges bytes with the host."""

    type_bytes: float = 1.0
    """Of one element of the widest type."""
    amount: str = ""
    """How many samples, in words; empty where they came from the host."""
    copies: Probe | None = None

    @classmethod
    def of(cls, workload: TensorWorkload, copies: Probe | None) -> ResidentSamples:
        """Return what a workload's dataset has put there."""
        dataset = workload.dataset
        if isinstance(dataset, DeviceDataset):
            return cls(dataset.type_bytes, dataset.amount, copies)
        return cls(copies=copies)

    @classmethod
    def slowest(cls, each: Sequence[ResidentSamples]) -> ResidentSamples:
        """Return what holds of every one of several devices, measured together."""
        copies = [one.copies for one in each if one.copies is not None]
        worst = None
        if len(copies) == len(each):
            worst = replace(
                copies[0],
                in_per_s=min(one.in_per_s for one in copies),
                out_per_s=min(one.out_per_s for one in copies),
                both_per_s=min(one.both_per_s for one in copies),
            )
        amount = f"{each[0].amount} on each" if each[0].amount else ""
        return cls(max(one.type_bytes for one in each), amount, worst)


def residency_texts(resident: ResidentSamples) -> dict[str, str]:
    """Return what a verdict says of a run that began or ended on the device."""
    facts = {"pinned copies": "not measured"}
    if resident.amount:
        facts["samples on the device"] = resident.amount
    copies = resident.copies
    if copies is not None:
        ways = (copies.in_per_s, copies.out_per_s, copies.both_per_s)
        figures = (f"{way / 1e9:.2f}" for way in ways)
        facts["pinned copies"] = "in {}, out {}, both {} GB/s".format(*figures)
    return facts


def check_equal_shapes(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches as they come; ``BuildFailed`` where samples differ in shape."""
    known: dict[str, tuple[int, ...]] = {}
    for batch in batches:
        shapes = {name: array.shape[1:] for name, array in batch.items()}
        known = known or shapes
        if shapes != known:
            raise BuildFailed(
                f"samples have the shapes {known} and {shapes}, but the engine keeps "
                "only samples of one shape on the device; leave "
                "--mlperf-start-from-device away"
            )
        yield batch
