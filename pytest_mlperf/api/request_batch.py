"""Sends requests outside LoadGen: test completions, warm-ups, a probe's loops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import Service

BEAT_S = 0.2
Open = Callable[[Listener], Service]


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """Some requests and how long they took."""

    answers: tuple[Answer, ...]
    """In the order in which they arrived."""
    seconds: float
    """From the first request to the last answer that counts."""
    latencies: tuple[float, ...]
    """Seconds of each answer, from queueing its request."""
    firsts: tuple[float, ...] = ()
    """Seconds to the first token of each streamed answer."""
    mean_s: float = 0.0
    """Mean latency of all answers, those too that came after the last one that counts:
    a server's own counters have them."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / max(self.seconds, 1e-9)


def send_all(
    open_service: Open,
    samples: Iterable[int],
    *,
    outstanding: int,
    count: int,
    beat: Callable[[], None],
    limit_s: float = float("inf"),
) -> RequestBatch:
    """Keep requests outstanding until ``count`` are answered or ``limit_s`` is over.

    The samples are taken in turn, over and over. Requests that are outstanding at the
    end are waited for and do not count. Raises the error that the service fails with.
    """
    batch = _BatchListener(samples, outstanding, count)
    service = open_service(batch)
    try:
        batch.begin(service)
        while not batch.over.wait(BEAT_S):
            beat()
            if time.monotonic() - batch.started > limit_s:
                batch.stop()
    finally:
        service.close()
    if batch.error is not None:
        raise batch.error
    return batch.result()


def send_when_due(
    open_service: Open,
    samples: Iterable[int],
    due: Sequence[float],
    beat: Callable[[], None] = lambda: None,
) -> RequestBatch:
    """Send requests when they are due, whatever is outstanding, and wait for them all.

    ``due``: seconds from the first one on, ascending. Answers and latencies are in
    their order, and a latency counts from when its request was due. Raises the error
    that the service fails with.
    """
    listener = _DueListener(due)
    service = open_service(listener)
    try:
        listener.started = time.monotonic()
        for ticket, (at, sample) in enumerate(
            zip(due, _cycle([*samples]), strict=False)
        ):
            while (left := listener.started + at - time.monotonic()) > 0:
                listener.over.wait(min(left, BEAT_S))
                beat()
            if listener.error is not None:
                break
            service.submit(ticket, sample)
        while not listener.over.wait(BEAT_S):
            beat()
    finally:
        service.close()
    if listener.error is not None:
        raise listener.error
    return listener.result()


class _DueListener:
    """Listens to a service whose requests are sent by the clock."""

    def __init__(self, due: Sequence[float]) -> None:
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.started = time.monotonic()
        self._due = due
        self._done: dict[int, tuple[Answer, float]] = {}

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Nobody asks for it at a rate."""

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        now = time.monotonic() - self.started
        for ticket, answer in answers:
            self._done[ticket] = answer, now
        if len(self._done) == len(self._due):
            self.over.set()

    def failed(self, error: BaseException) -> None:
        self.error = self.error or error
        self.over.set()

    def result(self) -> RequestBatch:
        found = [self._done[ticket] for ticket in range(len(self._due))]
        pairs = zip(found, self._due, strict=True)
        latencies = tuple(at - due for (_, at), due in pairs)
        return RequestBatch(
            tuple(answer for answer, _ in found),
            max(at for _, at in found),
            latencies,
            mean_s=sum(latencies) / len(latencies),
        )


class _BatchListener:
    """Listens to a service, and sends the next request when one is answered."""

    def __init__(self, samples: Iterable[int], outstanding: int, count: int) -> None:
        self.over = threading.Event()
        self.error: BaseException | None = None
        self.started = time.monotonic()
        self._samples = _cycle(list(samples))
        self._outstanding = min(outstanding, count)
        self._count = count
        self._service: Service | None = None
        self._sent: dict[int, float] = {}
        self._ticket = self._all = 0
        self._done: list[tuple[Answer, float]] = []
        self._firsts: list[float] = []
        self._seconds = self._all_s = 0.0
        self._lock = threading.Lock()

    def begin(self, service: Service) -> None:
        with self._lock:
            self._service = service
            self.started = time.monotonic()
            for _ in range(self._outstanding):
                self._send()

    def stop(self) -> None:
        """Send no more requests."""
        with self._lock:
            self._count = len(self._done)
            if not self._sent:
                self.over.set()

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        with self._lock:
            now = time.monotonic()
            self._firsts += [now - self._sent[ticket] for ticket, _ in firsts]

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        with self._lock:
            now = time.monotonic()
            for ticket, answer in answers:
                sent = self._sent.pop(ticket)
                self._all_s += now - sent
                self._all += 1
                if len(self._done) < self._count:
                    self._done.append((answer, now - sent))
                    self._seconds = now - self.started
                if len(self._done) < self._count:
                    self._send()
            if not self._sent:
                self.over.set()

    def failed(self, error: BaseException) -> None:
        self.error = self.error or error  # later ones follow from the first
        self.over.set()

    def result(self) -> RequestBatch:
        answers = tuple(answer for answer, _ in self._done)
        latencies = tuple(latency for _, latency in self._done)
        return RequestBatch(
            answers, self._seconds, latencies, tuple(self._firsts),
            self._all_s / max(self._all, 1),
        )  # fmt: skip

    def _send(self) -> None:
        assert self._service is not None, "begin() comes first"
        self._ticket += 1
        self._sent[self._ticket] = time.monotonic()
        self._service.submit(self._ticket, next(self._samples))


def _cycle(samples: Sequence[int]) -> Iterator[int]:
    while True:
        yield from samples
