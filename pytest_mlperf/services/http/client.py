"""The client's event loop: requests in line, kept connections, answers as they come.

One thread does all sending and receiving. Python objects per request: the exchange
that reads its answer. What arrives in one round of the loop is handed over in one
call, because LoadGen takes many completions for the price of one.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Protocol

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.services.http.connection import Address
from pytest_mlperf.services.http.http1 import BadResponse
from pytest_mlperf.services.http.http1 import Reader

TICK_S = 0.25
"""How often time-outs are looked at."""
PIECE = 1 << 16
SHOWN = 300
"""Bytes of a refusal's body that its message shows."""
IDLE_S = 1.0
"""A kept connection that closes later than this after a request was sent was not
closed while it was idle: the server had the request, and let it drop."""
OPENERS = 8
"""Connections that are opened at the same time."""
WANTS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Exchange(Protocol):
    """Reads the body of one answer."""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; True when the first token is among them."""

    @property
    def first(self) -> Answer:
        """The first token, once ``feed`` has said that it is there."""

    def finish(self) -> Answer:
        """Return the answer; ``BadAnswer`` when it does not count."""


class Wire:
    """One kept connection, and the request that is on it."""

    __slots__ = (
        "begun", "endpoint", "exchange", "fd", "last", "reader", "refusal", "sample",
        "sent", "socket", "ticket", "unsent", "used",
    )  # fmt: skip

    def __init__(self, connected: socket.socket, endpoint: Endpoint) -> None:
        self.socket = connected
        self.fd = connected.fileno()
        self.endpoint = endpoint
        self.reader = Reader()
        self.exchange: Exchange | None = None
        self.ticket = self.sample = 0
        self.sent = self.last = 0.0
        self.unsent = b""
        self.refusal = b""
        self.used = False
        self.begun = False
        """The first token of the answer is here."""


class Endpoint:
    """One URL's connections and figures."""

    __slots__ = ("address", "head", "idle", "limit", "opening", "stats", "wires")

    def __init__(self, address: Address, head: bytes, limit: int) -> None:
        self.address = address
        self.head = head
        self.limit = limit
        self.idle: list[Wire] = []
        self.wires = 0
        self.opening = 0
        self.stats = EndpointStats(address.url)


class Pool:
    """A ``Service`` over HTTP; see there for its methods.

    ``requests`` holds what follows the head: the body's headers and the body.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        requests: Mapping[int, bytes],
        exchange: Callable[[int], Exchange],
        listener: Listener,
        *,
        balance: str = "least",
        whole: bool = False,
        timeout_s: float = 600.0,
        stall_s: float = 120.0,
        connect_s: float = 10.0,
    ) -> None:
        self._endpoints = list(endpoints)
        self._requests = requests
        self._exchange = exchange
        self._listener = listener
        self._round = balance == "round"
        self._whole = whole
        self._timeout_s, self._stall_s = timeout_s, stall_s
        self._connect_s = connect_s
        self._line: deque[tuple[int, int]] = deque()
        self._turn = 0
        self._busy: dict[int, Wire] = {}
        self._wires: dict[int, Wire] = {}
        self._firsts: list[tuple[int, Answer]] = []
        self._dones: list[tuple[int, Answer]] = []
        self._opened: queue.SimpleQueue[tuple[Endpoint, socket.socket | OSError]]
        self._opened = queue.SimpleQueue()
        self._to_open: queue.SimpleQueue[Endpoint | None] = queue.SimpleQueue()
        self.pulse = 0
        self._asleep = False
        self._ended = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._openers = [
            threading.Thread(target=self._open_all, name=f"connect-{i}", daemon=True)
            for i in range(OPENERS)
        ]
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        for thread in (*self._openers, self._thread):
            thread.start()

    def submit(self, ticket: int, sample: int) -> None:
        """Put a request in line; returns at once."""
        self._line.append((ticket, sample))
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._wake, 1)

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return each endpoint's figures."""
        return tuple(endpoint.stats for endpoint in self._endpoints)

    def close(self) -> None:
        """End the threads and close the connections."""
        self._ended = True
        os.eventfd_write(self._wake, 1)
        for _ in self._openers:
            self._to_open.put(None)
        self._thread.join()
        for thread in self._openers:
            thread.join()
        while not self._opened.empty():
            _, late = self._opened.get()
            if isinstance(late, socket.socket):
                late.close()
        for wire in self._wires.values():
            wire.socket.close()
        self._wires.clear()
        self._epoll.close()
        os.close(self._wake)

    def _run(self) -> None:
        try:
            self._rounds()
        except RequestFailed as error:
            self._listener.failed(error)
        except BaseException as error:  # noqa: BLE001 - the listener ends the run
            self._listener.failed(error)

    def _rounds(self) -> None:
        poll, wires, wake = self._epoll.poll, self._wires, self._wake
        look = time.monotonic() + TICK_S
        while not self._ended:
            self._asleep = True
            # What was put in line before that line was written woke nobody.
            can_send = self._line and self._has_room()
            events = poll(0.0 if can_send else TICK_S)
            self._asleep = False
            for fd, mask in events:
                if fd == wake:
                    os.eventfd_read(wake)
                    continue
                wire = wires.get(fd)
                if wire is not None:
                    self._ready(wire, mask)
            self._hand_over()
            self._take_opened()
            self._dispatch()
            now = time.monotonic()
            if now >= look:
                look = now + TICK_S
                self._look_at_times(now)

    def _hand_over(self) -> None:
        if self._firsts:
            firsts, self._firsts = self._firsts, []
            self._listener.first_token(firsts)
        if self._dones:
            dones, self._dones = self._dones, []
            self._listener.done(dones)

    def _has_room(self) -> bool:
        return any(e.idle for e in self._endpoints)

    def _dispatch(self) -> None:
        line = self._line
        while line:
            endpoint = self._next()
            if endpoint is None:
                break
            wire = endpoint.idle.pop()
            ticket, sample = line.popleft()
            self._send(wire, ticket, sample)
        if line:
            self._ask_for_more(len(line))

    def _next(self) -> Endpoint | None:
        """Return the endpoint whose turn it is; None while it must be waited for."""
        endpoints = self._endpoints
        if len(endpoints) == 1:
            return endpoints[0] if endpoints[0].idle else None
        if self._round:
            endpoint = endpoints[self._turn % len(endpoints)]
            if not endpoint.idle:
                return None
            self._turn += 1
            return endpoint
        least = min(endpoints, key=_load)
        return least if least.idle else None

    def _ask_for_more(self, waiting: int) -> None:
        """Have connections opened for what waits, as far as the limits allow."""
        share = -(-waiting // len(self._endpoints))
        for endpoint in self._endpoints:
            room = endpoint.limit - endpoint.wires - endpoint.opening
            wanted = min(room, share - endpoint.opening - len(endpoint.idle))
            for _ in range(wanted):
                endpoint.opening += 1
                self._to_open.put(endpoint)

    def _open_all(self) -> None:
        while (endpoint := self._to_open.get()) is not None:
            made: socket.socket | OSError
            try:
                made = endpoint.address.connect(self._connect_s)
            except OSError as error:
                made = error
            self._opened.put((endpoint, made))
            if not self._ended:
                os.eventfd_write(self._wake, 1)

    def _take_opened(self) -> None:
        while not self._opened.empty():
            endpoint, made = self._opened.get()
            endpoint.opening -= 1
            if isinstance(made, OSError):
                sample = self._line[0][1] if self._line else -1
                problem = f"cannot connect ({made.strerror or made})"
                raise RequestFailed(endpoint.address.url, sample, 0.0, problem)
            wire = Wire(made, endpoint)
            self._wires[wire.fd] = wire
            self._epoll.register(wire.fd, select.EPOLLIN)
            endpoint.wires += 1
            endpoint.idle.append(wire)

    def _send(self, wire: Wire, ticket: int, sample: int) -> None:
        endpoint = wire.endpoint
        wire.ticket, wire.sample = ticket, sample
        wire.exchange = self._exchange(sample)
        wire.sent = wire.last = time.monotonic()
        wire.refusal = b""
        wire.begun = False
        self._busy[wire.fd] = wire
        stats = endpoint.stats
        stats.sent += 1
        stats.outstanding += 1
        if stats.outstanding > stats.most_outstanding:
            stats.most_outstanding = stats.outstanding
        self._push(wire, endpoint.head + self._requests[sample])

    def _push(self, wire: Wire, data: bytes) -> None:
        try:
            sent = wire.socket.send(data)
        except WANTS:
            sent = 0
        except OSError as error:
            self._broken(wire, f"the connection broke while sending ({error})")
            return
        if sent < len(data):
            if not wire.unsent:
                both = select.EPOLLIN | select.EPOLLOUT
                self._epoll.modify(wire.fd, both)
            wire.unsent = data[sent:]
        elif wire.unsent:
            wire.unsent = b""
            self._epoll.modify(wire.fd, select.EPOLLIN)

    def _ready(self, wire: Wire, mask: int) -> None:
        if wire.unsent and mask & select.EPOLLOUT:
            self._push(wire, wire.unsent)
        if not mask & ~select.EPOLLOUT or wire.fd not in self._wires:
            return
        while True:
            try:
                data = wire.socket.recv(PIECE)
            except WANTS:
                return
            except OSError as error:
                self._broken(wire, f"the connection broke ({error.strerror or error})")
                return
            if not data:
                self._closed(wire)
                return
            self._received(wire, data)
            # TLS may hold more than the kernel knows of.
            if len(data) < PIECE and wire.endpoint.address.context is None:
                return
            if wire.fd not in self._wires:
                return

    def _received(self, wire: Wire, data: bytes) -> None:
        exchange, reader = wire.exchange, wire.reader
        self.pulse += 1
        if exchange is None:
            self._drop(wire)  # bytes that nobody asked for: out of step
            return
        try:
            content = reader.feed(data)
            if reader.status == 200:
                if content and exchange.feed(content):
                    self._first(wire, exchange.first)
                wire.last = time.monotonic()
                if reader.ended:
                    self._answered(wire, exchange.finish())
                return
        except (BadResponse, BadAnswer) as error:
            raise self._failure(wire, str(error)) from None
        wire.refusal += content[:SHOWN]
        if reader.ended or len(wire.refusal) >= SHOWN:
            raise self._refused(wire)

    def _first(self, wire: Wire, first: Answer) -> None:
        self._firsts.append((wire.ticket, first))
        wire.begun = True
        wire.endpoint.stats.first_token_s += time.monotonic() - wire.sent

    def _answered(self, wire: Wire, answer: Answer) -> None:
        stats = wire.endpoint.stats
        stats.answered += 1
        stats.outstanding -= 1
        stats.tokens += answer.tokens
        stats.answer_s += wire.last - wire.sent
        self._dones.append((wire.ticket, answer))
        del self._busy[wire.fd]
        wire.exchange = None
        wire.used = True
        if wire.reader.keep:
            wire.reader.begin()
            wire.endpoint.idle.append(wire)
        else:
            self._drop(wire)

    def _closed(self, wire: Wire) -> None:
        """The server has closed the connection."""
        exchange, reader = wire.exchange, wire.reader
        if exchange is None:
            self._drop(wire)
        elif reader.close():
            if reader.status != 200:
                raise self._refused(wire)
            try:
                self._answered(wire, exchange.finish())
            except BadAnswer as error:
                raise self._failure(wire, str(error)) from None
        else:
            self._broken(wire, "the server closed the connection")

    def _broken(self, wire: Wire, problem: str) -> None:
        """Fail, or send again where a kept connection had been closed unnoticed.

        RFC 9112 9.3.1: a server may close a kept connection just as a request is on
        its way. The request's clock goes on, and it is counted.
        """
        if wire.exchange is None:
            self._drop(wire)
            return
        held = time.monotonic() - wire.sent > IDLE_S
        if not wire.used or wire.reader.started or held:
            after = "before the answer"
            if wire.reader.started:
                after = "in the middle of the answer"
            raise self._failure(wire, f"{problem} {after}")
        stats = wire.endpoint.stats
        stats.reconnected += 1
        stats.sent -= 1
        stats.outstanding -= 1
        del self._busy[wire.fd]
        wire.exchange = None
        self._line.appendleft((wire.ticket, wire.sample))
        self._drop(wire)

    def _drop(self, wire: Wire) -> None:
        if self._wires.pop(wire.fd, None) is None:
            return
        self._epoll.unregister(wire.fd)
        wire.socket.close()
        wire.endpoint.wires -= 1
        if wire in wire.endpoint.idle:
            wire.endpoint.idle.remove(wire)

    def _look_at_times(self, now: float) -> None:
        for wire in self._busy.values():
            if now - wire.sent > self._timeout_s:
                raise self._failure(wire, f"no whole answer in {self._timeout_s:g} s")
            # Before its first token a request may wait in the server's own line.
            if wire.begun and now - wire.last > self._stall_s:
                raise self._failure(wire, f"nothing came for {self._stall_s:g} s")
        if self._whole and self._busy:
            # Nothing shows that a whole answer is on its way; it has its own limit.
            self.pulse += 1

    def _failure(self, wire: Wire, problem: str) -> RequestFailed:
        after = time.monotonic() - wire.sent
        return RequestFailed(wire.endpoint.address.url, wire.sample, after, problem)

    def _refused(self, wire: Wire) -> RequestFailed:
        said = wire.refusal[:SHOWN].decode("utf-8", "replace").strip()
        text = f"HTTP {wire.reader.status}"
        return self._failure(wire, f"{text}: {said}" if said else text)


def _load(endpoint: Endpoint) -> int:
    return endpoint.stats.outstanding
