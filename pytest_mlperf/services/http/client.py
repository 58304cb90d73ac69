"""The client's event loop: queued requests, keep-alive connections, answers.

One thread does all sending and receiving. What arrives in one round of the loop is
handed over in one call, because LoadGen takes many completions for the price of one.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.api.service import Listener
from pytest_mlperf.services.http.connection import AnswerReader
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.http.connection_pool import ConnectionPool
from pytest_mlperf.services.http.opener import ConnectionOpener

TICK_S = 0.25
"""Time-outs are checked this often."""
MOST_EVENTS = 16
"""Connections that are read before what came is handed over and more is sent: neither
waits for the parsing of hundreds of answers, and the server has work meanwhile."""


class HttpClient:
    """A ``Service`` over HTTP; its methods are described there.

    ``requests`` holds what follows the head: the body's headers and the body.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        requests: Mapping[int, bytes],
        open_reader: Callable[[int], AnswerReader],
        listener: Listener,
        *,
        balance: str = "least",
        whole: bool = False,
        keep_alive: bool = True,
        timeout_s: float = 600.0,
        stall_s: float = 120.0,
        connect_s: float = 10.0,
    ) -> None:
        self._endpoints = list(endpoints)
        self._listener = listener
        self._is_round_robin = balance == "round"
        self._turn = 0
        self._whole = whole
        self._timeout_s, self._stall_s = timeout_s, stall_s
        self._waiting: deque[tuple[int, int]] = deque()
        self._is_asleep = False
        self._is_closed = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._pool = ConnectionPool(
            self._epoll, requests, open_reader, self._waiting, keep_alive=keep_alive
        )
        self._opener = ConnectionOpener(self._wake_fd, connect_s)
        self._opened = self._opener.opened
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self._thread.start()

    @property
    def pulse(self) -> int:
        return self._pool.pulse

    def submit(self, ticket: int, sample: int) -> None:
        """Queue a request; returns at once."""
        self._waiting.append((ticket, sample))
        if self._is_asleep:
            self._is_asleep = False
            os.eventfd_write(self._wake_fd, 1)

    def stats(self) -> tuple[EndpointStats, ...]:
        """Return each endpoint's figures."""
        return tuple(endpoint.stats for endpoint in self._endpoints)

    def close(self) -> None:
        """End the threads and close the connections."""
        self._is_closed = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join()
        self._opener.close()
        self._pool.close()
        self._epoll.close()
        os.close(self._wake_fd)

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - the listener ends the run
            self._listener.failed(error)

    def _loop(self) -> None:
        poll, wake_fd = self._epoll.poll, self._wake_fd
        connections, handle = self._pool.connections, self._pool.handle
        next_check = time.monotonic() + TICK_S
        while not self._is_closed:
            self._is_asleep = True
            # A request that was queued before that line has woken nobody.
            can_send = self._waiting and self._has_idle()
            events = poll(0.0 if can_send else TICK_S, MOST_EVENTS)
            self._is_asleep = False
            for fd, mask in events:
                if fd == wake_fd:
                    os.eventfd_read(wake_fd)
                    continue
                connection = connections.get(fd)
                if connection is not None:
                    handle(connection, mask)
            self._hand_over()
            self._take_opened()
            self._dispatch()
            now = time.monotonic()
            if now >= next_check:
                next_check = now + TICK_S
                self._check_times(now)

    def _hand_over(self) -> None:
        pool = self._pool
        if pool.firsts:
            firsts, pool.firsts = pool.firsts, []
            self._listener.first_token(firsts)
        if pool.answers:
            answers, pool.answers = pool.answers, []
            self._listener.done(answers)

    def _has_idle(self) -> bool:
        return any(endpoint.idle for endpoint in self._endpoints)

    def _dispatch(self) -> None:
        waiting, send = self._waiting, self._pool.send
        while waiting:
            endpoint = self._choose_endpoint()
            if endpoint is None:
                break
            ticket, sample = waiting.popleft()
            if not send(endpoint.idle.pop(), ticket, sample):
                waiting.appendleft((ticket, sample))
        if waiting:
            self._ask_for_connections(len(waiting))

    def _choose_endpoint(self) -> Endpoint | None:
        """Return the endpoint for the next request; None while it has no connection."""
        endpoints = self._endpoints
        if len(endpoints) == 1:
            return endpoints[0] if endpoints[0].idle else None
        if self._is_round_robin:
            endpoint = endpoints[self._turn % len(endpoints)]
            if not endpoint.idle:
                return None
            self._turn += 1
            return endpoint
        least = min(endpoints, key=_count_outstanding)
        return least if least.idle else None

    def _ask_for_connections(self, waiting: int) -> None:
        """Open connections for the waiting requests, as far as the limits allow."""
        share = -(-waiting // len(self._endpoints))
        for endpoint in self._endpoints:
            room = endpoint.limit - endpoint.connections - endpoint.opening
            lacking = share - endpoint.opening - len(endpoint.idle)
            for _ in range(min(room, lacking)):
                self._opener.ask(endpoint)

    def _take_opened(self) -> None:
        while not self._opened.empty():
            endpoint, result = self._opened.get()
            endpoint.opening -= 1
            if isinstance(result, OSError):
                sample = self._waiting[0][1] if self._waiting else -1
                problem = f"cannot connect ({result.strerror or result})"
                raise RequestFailed(endpoint.address.url, sample, 0.0, problem)
            self._pool.add(result, endpoint)

    def _check_times(self, now: float) -> None:
        pool = self._pool
        if self._find_late(now):
            # Where this process stood still, the answers lie here and were not read.
            for fd, mask in self._epoll.poll(0.0):
                if fd in pool.connections:
                    pool.handle(pool.connections[fd], mask)
            self._hand_over()
            if late := self._find_late(now):
                raise late
        if self._whole and pool.busy:
            # Nothing shows that a whole answer is on its way; it has its own limit.
            pool.pulse += 1

    def _find_late(self, now: float) -> RequestFailed | None:
        """Return the failure of a request that has waited for too long."""
        timeout_s, stall_s = self._timeout_s, self._stall_s
        for connection in self._pool.busy.values():
            if now - connection.sent_s > timeout_s:
                return connection.failure(f"no whole answer in {timeout_s:g} s")
            # Before its first token a request may wait in the server's own queue.
            if connection.has_begun and now - connection.last_s > stall_s:
                return connection.failure(f"nothing came for {stall_s:g} s")
        return None


def _count_outstanding(endpoint: Endpoint) -> int:
    return endpoint.stats.outstanding
