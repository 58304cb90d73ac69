"""A workload's samples as requests of the open inference protocol."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import Dataset
from pytest_mlperf.services.kserve.device_memory import DeviceMemory
from pytest_mlperf.services.kserve.device_memory import SlotMap
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.shared_memory import RequestRegion
from pytest_mlperf.services.kserve.tensors import Rooms
from pytest_mlperf.services.kserve.tensors import encode_request

Parts = Mapping[str, Mapping[str, Any]]
Encode = Callable[[Batch, tuple[str, ...], Parts | None, Parts | None], bytes]
"""(arrays, outputs' names, where inputs are in shared memory, where outputs are to be)
-> a request."""


@dataclass(frozen=True, slots=True)
class WireRequests:
    """What a client sends, and how it reads the answers."""

    outputs: tuple[str, ...]
    answer_rows: int | None
    bodies: Mapping[int, bytes]
    """Sample, or slot of a GPU's memory -> its request."""
    rooms: Mapping[int, Rooms] = field(default_factory=dict)
    """The same -> where its outputs are read; empty: in the answer."""


@dataclass(slots=True)
class TensorRequests:
    """The requests whose samples are loaded; one sample each, or ``size`` of them.

    Request ``i`` of several samples has those from ``i * size`` on; of a dataset that
    is smaller than one request they repeat.
    """

    dataset: Dataset
    outputs: tuple[str, ...]
    """Names, in the order in which the workload wants them; empty: the model's own."""
    size: int = 1
    has_rows_of_samples: bool = True
    """Arrays have one row a sample; of a recommender they have one a pair."""
    length: int | None = None
    """Sequences are padded to this many tokens; None: to the longest of a request."""
    encode: Encode = encode_request
    """Makes a request of arrays, as the transport sends it."""
    apis: Sequence[ServerApi] = ()
    """Servers that map the tensors as shared memory; empty: requests carry them."""
    specs: Sequence[Mapping[str, Any]] = ()
    """Of the outputs that have room there, in the model's metadata; empty: answers
    carry them."""
    device: DeviceMemory | None = None
    """Has the requests where tensors are in a GPU's memory while they are outstanding;
    ``bodies`` and ``rooms`` are empty then."""
    regions: dict[int, RequestRegion] = field(default_factory=dict)
    """Request -> the region that has its tensors."""
    rooms: dict[int, Rooms] = field(default_factory=dict)
    """Request -> where its outputs are read; empty: in the answer."""
    bodies: dict[int, bytes] = field(default_factory=dict)

    def to_wire(self) -> WireRequests:
        """Return what a client sends; by slots where a GPU's memory carries them."""
        if self.device is None:
            return WireRequests(self.outputs, self.answer_rows, self.bodies, self.rooms)
        bodies = SlotMap(self.device, self.device.send)
        rooms = SlotMap(self.device, self.device.rooms_of)
        return WireRequests(self.outputs, self.answer_rows, bodies, rooms)

    @property
    def answer_rows(self) -> int | None:
        """Rows of an answer's arrays; None where they are not the samples."""
        return self.size if self.has_rows_of_samples else None

    @property
    def total(self) -> int:
        return max(1, self.dataset.total // self.size)

    @property
    def performance_count(self) -> int:
        return max(1, self.dataset.performance_count // self.size)

    def samples_of(self, index: int) -> list[int]:
        """Return the samples of a request."""
        first, total = index * self.size, self.dataset.total
        return [number % total for number in range(first, first + self.size)]

    def gather(self, index: int) -> Batch:
        """Return a request's arrays; its samples are loaded."""
        batch: Mapping[str, Array] = self.dataset.gather(self.samples_of(index))
        if self.length is None:
            return batch
        return {name: pad_axis(array, self.length) for name, array in batch.items()}

    def load(self, indices: Sequence[int]) -> None:
        """Write the requests of these samples. Untimed."""
        self.dataset.load([one for index in indices for one in self.samples_of(index)])
        known: Container[int] = self.device.staged if self.device else self.bodies
        new = {i: self.gather(i) for i in indices if i not in known}
        if self.device is not None:
            if new:
                self.device.load(new, self.outputs, self.encode)
            return
        if self.apis and new:
            region = RequestRegion(self.apis, new, self.specs)
            self.rooms |= region.rooms if self.specs else {}
            self.regions |= dict.fromkeys(new, region)
            for index, batch in new.items():
                parts = region.inputs[index], region.outputs[index]
                self.bodies[index] = self.encode(batch, self.outputs, *parts)
            return
        for index, batch in new.items():
            self.bodies[index] = self.encode(batch, self.outputs, None, None)

    def unload(self, indices: Sequence[int]) -> None:
        """Forget the requests of these samples."""
        if self.device is not None:
            self.device.unload(indices)
        for index in indices:
            self.bodies.pop(index, None)
            self.rooms.pop(index, None)
            if index in self.regions:
                self.regions.pop(index).release(index)
        self.dataset.unload(
            [one for index in indices for one in self.samples_of(index)]
        )


def pad_axis(array: Array, length: int) -> Array:
    """Return an array whose axis 1 has ``length`` entries, zeros behind its own."""
    lacking = length - array.shape[1]
    if lacking <= 0:
        return array
    widths = [(0, 0), (0, lacking)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths)
