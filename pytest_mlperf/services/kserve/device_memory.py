"""Requests whose tensors lie in the memory of a GPU that the server has too.

MLPerf counts the copy of a query's inputs to the device, and that of its outputs back,
unless a system may start from the device. So a query's inputs lie in host memory until
it is sent. Then they are copied into a slot's region on the GPU, and once the server
has answered, the outputs are copied back before anybody is told of the answer. Both
copies are within the latency. A slot has one query at a time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from typing import TypeVar

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.cuda_driver import CudaDriver
from pytest_mlperf.services.kserve.server_api import ServerApi
from pytest_mlperf.services.kserve.server_api import ServerRefusal
from pytest_mlperf.services.kserve.shared_memory import Parts
from pytest_mlperf.services.kserve.shared_memory import measure_outputs
from pytest_mlperf.services.kserve.tensors import Rooms

ALIGNMENT = 256
"""Of a tensor on the GPU, in bytes: what DLPack asks for."""
SLOT_DIGITS = 6
MARK = b"#" * SLOT_DIGITS
"""Stands for a slot's number in a request. Numbers have as many digits, so that no
length in the request changes."""
LATE_S, TRIES = 0.02, 25
"""Half a second for a server to let go of the last requests."""
_NUMBERS = itertools.count()
Found = TypeVar("Found")
Places = dict[str, tuple[int, int]]
"""Tensor -> its offset in a slot's region, and its bytes."""
Encode = Callable[[Batch, tuple[str, ...], Parts | None, Parts | None], bytes]


def place_tensors(sizes: Mapping[str, int], start: int = 0) -> tuple[Places, int]:
    """Return tensor -> (offset, bytes) behind one another, and where the last ends."""
    places, at = {}, start
    for name, size in sizes.items():
        places[name] = at, size
        at += -(-size // ALIGNMENT) * ALIGNMENT
    return places, at


@dataclass(frozen=True, slots=True)
class StagedRequest:
    """A request whose inputs lie in page-locked host memory."""

    address: int
    """Of the inputs, laid out as in a slot."""
    input_bytes: int
    total_bytes: int
    """With the outputs."""
    outputs: Places
    body: bytes
    """As the transport sends it, with ``MARK`` for the slot."""


@dataclass(slots=True)
class Slot:
    """One query's memory, and the request that it carries."""

    number: int
    address: int
    """On the GPU."""
    host: int
    """Page-locked memory for the outputs."""
    view: memoryview[Any]
    sample: int = -1


class OutputRooms(Mapping[str, "memoryview[Any]"]):
    """Where a slot's outputs are read: reading one copies it from the GPU."""

    def __init__(self, driver: CudaDriver, slot: Slot, staged: StagedRequest) -> None:
        self._driver, self._slot, self._places = driver, slot, staged.outputs
        self._first = staged.input_bytes

    def __getitem__(self, name: str) -> memoryview[Any]:
        at, size = self._places[name]
        slot, place = self._slot, at - self._first
        self._driver.copy_out(slot.host + place, slot.address + at, size)
        return slot.view[place : place + size]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class DeviceMemory:
    """The regions of all slots, and the requests that are loaded.

    Slots are made once a client is open and requests are loaded, whichever comes
    later, and again where loaded requests need larger ones. Both is before a run.
    """

    def __init__(
        self,
        apis: Sequence[ServerApi],
        specs: Sequence[Mapping[str, Any]] = (),
        driver: CudaDriver | None = None,
    ) -> None:
        """``specs``: of the outputs, in the model's metadata; empty: they have no room.

        Raises ``RunRefused`` for a machine without CUDA.
        """
        self.driver = driver or CudaDriver()
        self.staged: dict[int, StagedRequest] = {}
        self.slots: list[Slot] = []
        self._apis, self._specs = apis, specs
        self._pinned: dict[int, set[int]] = {}
        """Address of host memory -> the loaded requests that lie there."""
        self._count = self._slot_bytes = self._host_bytes = 0
        self._name = f"pytest-mlperf-{os.getpid()}-{next(_NUMBERS)}"

    def load(
        self, batches: Mapping[int, Batch], outputs: tuple[str, ...], encode: Encode
    ) -> None:
        """Write requests into host memory, and make slots that they fit into."""
        layouts = {i: self._lay_out(batch) for i, batch in batches.items()}
        size = sum(end for _, end, _, _ in layouts.values())
        address, view = self.driver.pin(size)
        self._pinned[address] = set(batches)
        at = 0
        for index, (inputs, end, rooms, total) in layouts.items():
            batch = batches[index]
            for name, (offset, count) in inputs.items():
                data = batch[name].tobytes()
                view[at + offset : at + offset + count] = data
            body = encode(batch, outputs, self._parts(inputs), self._parts(rooms))
            self.staged[index] = StagedRequest(address + at, end, total, rooms, body)
            at += end
        self._fit()

    def _lay_out(self, batch: Batch) -> tuple[Places, int, Places, int]:
        inputs, end = place_tensors({n: a.nbytes for n, a in batch.items()})
        rooms, total = place_tensors(measure_outputs(self._specs, batch), end)
        return inputs, end, rooms, total

    def _parts(self, places: Places) -> Parts:
        region = f"{self._name}-{MARK.decode()}"
        return {
            name: {
                "shared_memory_region": region,
                "shared_memory_offset": at,
                "shared_memory_byte_size": size,
            }
            for name, (at, size) in places.items()
        }

    def unload(self, indices: Sequence[int]) -> None:
        """Forget requests; none of them is outstanding."""
        for index in indices:
            self.staged.pop(index, None)
        for address, kept in list(self._pinned.items()):
            kept.difference_update(indices)
            if not kept:
                del self._pinned[address]
                self.driver.unpin(address)

    def open(self, count: int) -> None:
        """Have slots for ``count`` outstanding queries from now on."""
        self._count = count
        self._fit()

    def close(self) -> None:
        """Have the servers forget all slots, and free them."""
        self._count = 0
        self._release()

    def _fit(self) -> None:
        if not self.staged or not self._count:
            return
        loaded = self.staged.values()
        need = max(one.total_bytes for one in loaded)
        room = max(one.total_bytes - one.input_bytes for one in loaded)
        fits = need <= self._slot_bytes and room <= self._host_bytes
        if fits and len(self.slots) == self._count:
            return
        self._release()
        self._slot_bytes, self._host_bytes = need, room
        try:
            for number in range(self._count):
                self._add_slot(number)
        except BaseException:
            self._release()
            raise

    def _add_slot(self, number: int) -> None:
        driver, size = self.driver, self._slot_bytes
        address = driver.allocate(size)
        try:
            host, view = driver.pin(self._host_bytes)
        except RunRefused:
            driver.free(address)
            raise
        # First of all: what fails from here on is released with the others.
        self.slots.append(Slot(number, address, host, view))
        handle = driver.share(address)
        name = self._region(number)
        for api in self._apis:
            try:
                api.register_cuda_region(name, handle, driver.device, size)
            except ServerRefusal as error:
                raise RunRefused(
                    f"{api.url}: the server cannot map memory of GPU {driver.device} "
                    f"of this machine ({error}), but should: shared_memory=cuda needs "
                    "a server on this machine that sees the same GPU as its GPU "
                    f"{driver.device} (CUDA_VISIBLE_DEVICES; docker run --gpus all "
                    "--ipc host); use shared_memory=system or none with others"
                ) from None

    def _region(self, number: int) -> str:
        return f"{self._name}-{number:0{SLOT_DIGITS}}"

    def _release(self) -> None:
        slots, self.slots = self.slots, []
        self._slot_bytes = self._host_bytes = 0
        for slot in slots:
            for api in self._apis:
                unregister(api, self._region(slot.number))
            slot.view.release()
            with suppress(RunRefused):  # a lost GPU has nothing to free
                self.driver.unpin(slot.host)
                self.driver.free(slot.address)

    def send(self, number: int) -> bytes:
        """Copy the inputs of a slot's request to the GPU; return the request."""
        slot = self.slots[number]
        staged = self.staged[slot.sample]
        self.driver.copy_in(slot.address, staged.address, staged.input_bytes)
        return staged.body.replace(MARK, b"%0*d" % (SLOT_DIGITS, number))

    def rooms_of(self, number: int) -> Rooms:
        """Return where the outputs of a slot's request are read."""
        slot = self.slots[number]
        return OutputRooms(self.driver, slot, self.staged[slot.sample])


def unregister(api: ServerApi, name: str) -> None:
    """Have a server forget a region, if it is still there.

    Triton refuses that while a request uses the region, and lets go of a request just
    after its answer.
    """
    for _ in range(TRIES):
        try:
            api.unregister_cuda_region(name)
        except ServerRefusal:
            time.sleep(LATE_S)
        except RunRefused:
            return  # the server has ended
        else:
            return


class SlotMap(Mapping[int, Found]):
    """Slot -> what is looked up when somebody asks: a memory makes its slots later."""

    def __init__(self, memory: DeviceMemory, look_up: Callable[[int], Found]) -> None:
        self._memory, self._look_up = memory, look_up

    def __getitem__(self, number: int) -> Found:
        return self._look_up(number)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return len(self._memory.slots)
