"""A client whose outstanding queries each have a slot of a GPU's memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service
from pytest_mlperf.services.kserve.device_memory import DeviceMemory


class SlotClient:
    """A ``Service`` that gives each query a free slot; the rest wait in line.

    The client within sees slots instead of samples: its requests, and where it
    reads answers, are a ``SlotMap``.
    """

    def __init__(
        self,
        memory: DeviceMemory,
        count: int,
        open_client: Callable[[Listener], Service],
        listener: Listener,
    ) -> None:
        self._memory, self._listener = memory, listener
        self._lock = threading.Lock()
        self._free = deque(range(count))
        self._waiting: deque[tuple[int, int]] = deque()
        self._slots: dict[int, int] = {}
        """Ticket of an outstanding query -> its slot."""
        memory.open(count)
        try:
            self._client = open_client(self)
        except BaseException:
            memory.close()
            raise

    @property
    def pulse(self) -> int:
        return self._client.pulse

    def submit(self, ticket: int, sample: int) -> None:
        """Send a sample's request, now or once a slot is free; never blocks."""
        with self._lock:
            if not self._free:
                self._waiting.append((ticket, sample))
                return
            number = self._take(self._free.popleft(), ticket, sample)
        self._client.submit(ticket, number)

    def _take(self, number: int, ticket: int, sample: int) -> int:
        self._memory.slots[number].sample = sample
        self._slots[ticket] = number
        return number

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return each server's figures, as the client saw them."""
        return self._client.stats()

    def close(self) -> None:
        """Close the connections, and let go of the GPU's memory."""
        try:
            self._client.close()
        finally:
            self._memory.close()

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Tensors have none."""

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        """Hand over answers, whose outputs have left the GPU, and send what waits."""
        next_ones = []
        with self._lock:
            for ticket, _ in answers:
                number = self._slots.pop(ticket)
                if self._waiting:
                    next_ticket, sample = self._waiting.popleft()
                    self._take(number, next_ticket, sample)
                    next_ones.append((next_ticket, number))
                else:
                    self._free.append(number)
        for ticket, number in next_ones:
            self._client.submit(ticket, number)
        self._listener.done(answers)

    def failed(self, error: BaseException) -> None:
        """Tell of the first failure, with the sample instead of its slot."""
        if isinstance(error, RequestFailed) and error.sample >= 0:
            sample = self._memory.slots[error.sample].sample
            error = RequestFailed(error.url, sample, error.after_s, error.problem)
        self._listener.failed(error)
