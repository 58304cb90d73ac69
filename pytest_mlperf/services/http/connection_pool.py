"""The open connections of all endpoints: requests out, answers in.

This is the hot path of a service, on the client's one thread. A request costs one
object, the reader of its answer.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Mapping

from pytest_mlperf.api.errors import BadAnswer
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.services.http.connection import READ_BYTES
from pytest_mlperf.services.http.connection import AnswerReader
from pytest_mlperf.services.http.connection import Connection
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.http.http1 import BadResponse

RECEIVE_BYTES = 1 << 16
IDLE_S = 0.001
"""A connection that was idle for longer is looked at before it is used again."""
NOTHING = memoryview(b"")
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ConnectionPool:
    """Sends requests on idle connections and collects what arrives.

    ``requests`` holds what follows the head: the body's headers and the body.
    ``waiting`` is the client's queue: a request goes back to its front when a
    reused connection turns out to be closed. Methods raise ``RequestFailed``.
    """

    def __init__(
        self,
        epoll: select.epoll,
        requests: Mapping[int, bytes],
        open_reader: Callable[[int], AnswerReader],
        waiting: deque[tuple[int, int]],
        *,
        keep_alive: bool = True,
    ) -> None:
        self.connections: dict[int, Connection] = {}
        """File descriptor -> connection."""
        self.busy: dict[int, Connection] = {}
        """Those that carry a request."""
        self.firsts: list[tuple[int, Answer]] = []
        self.answers: list[tuple[int, Answer]] = []
        self.pulse = 0
        self._epoll = epoll
        self._requests = requests
        self._open_reader = open_reader
        self._waiting = waiting
        self._keep_alive = keep_alive

    def add(self, connected: socket.socket, endpoint: Endpoint) -> None:
        """Take a connected socket that does not block."""
        connection = Connection(connected, endpoint)
        self.connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLIN)
        endpoint.connections += 1
        endpoint.idle.append(connection)

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.socket.close()
        self.connections.clear()

    def send(self, connection: Connection, ticket: int, sample: int) -> bool:
        """Send a sample's request on an idle connection.

        Returns False where the server has closed it: nothing was sent.
        """
        now = time.monotonic()
        was_idle = connection.is_reused and now - connection.last_s > IDLE_S
        if was_idle and connection.has_closed():
            self._drop(connection)
            return False
        connection.begin_request(ticket, sample, self._open_reader(sample), now)
        self.busy[connection.fd] = connection
        self._push(connection, connection.endpoint.head + self._requests[sample])
        return True

    def _push(self, connection: Connection, data: bytes | memoryview) -> None:
        try:
            sent = connection.socket.send(data)
        except WOULD_BLOCK:
            sent = 0
        except OSError as error:
            connection.unsent = memoryview(data)
            self._fail_sending(connection, error)
            return
        connection.sent_bytes += sent
        if sent < len(data):
            if not connection.unsent:
                both = select.EPOLLIN | select.EPOLLOUT
                self._epoll.modify(connection.fd, both)
            connection.unsent = memoryview(data)[sent:]
            self.pulse += bool(sent)
            return
        stats = connection.endpoint.stats
        stats.send_s += time.monotonic() - connection.sent_s
        if connection.unsent:
            connection.unsent = NOTHING
            self._epoll.modify(connection.fd, select.EPOLLIN)

    def _fail_sending(self, connection: Connection, error: OSError) -> None:
        """Fail with the answer of a server that refused without reading on, if any."""
        while connection.reader and (data := connection.read_left()):
            self._receive(connection, data)
        if connection.response.status not in (0, 200):
            raise connection.refusal_failure()
        self._break(connection, f"the connection broke while sending ({error})", error)

    def handle(self, connection: Connection, mask: int) -> None:
        """Send and receive what epoll reports as possible."""
        if connection.unsent and mask & select.EPOLLOUT:
            self._push(connection, connection.unsent)
        if not mask & ~select.EPOLLOUT or connection.fd not in self.connections:
            return
        while True:
            try:
                data = connection.socket.recv(RECEIVE_BYTES)
            except WOULD_BLOCK:
                return
            except OSError as error:
                problem = f"the connection broke ({error.strerror or error})"
                self._break(connection, problem, error)
                return
            if not data:
                self._end(connection)
                return
            self._receive(connection, data)
            # TLS may hold data that the kernel does not report.
            if len(data) < RECEIVE_BYTES and (
                connection.endpoint.address.context is None
            ):
                return
            if connection.fd not in self.connections:
                return

    def _receive(self, connection: Connection, data: bytes) -> None:
        reader, response = connection.reader, connection.response
        self.pulse += 1
        if reader is None:
            self._drop(connection)  # bytes that answer no request: out of step
            return
        is_first = not response.started
        now = time.monotonic()
        try:
            content = response.feed(data)
            if response.status == 200:
                if content and reader.feed(content):
                    self.firsts.append((connection.ticket, reader.first))
                    connection.note_first_token(now)
                connection.note_arrival(now, is_first=is_first)
                if response.ended:
                    self._finish_answer(connection, reader.finish())
                else:
                    connection.acknowledge()
                return
        except (BadResponse, BadAnswer) as error:
            raise connection.answer_failure(str(error)) from None
        connection.refusal += content[:READ_BYTES]
        if response.ended or len(connection.refusal) >= READ_BYTES:
            raise connection.refusal_failure()

    def _finish_answer(self, connection: Connection, answer: Answer) -> None:
        if connection.unsent:
            raise connection.early_failure()
        connection.note_answer(answer)
        self.answers.append((connection.ticket, answer))
        del self.busy[connection.fd]
        connection.reader = None
        connection.is_reused = True
        if connection.response.keep and self._keep_alive:
            connection.response.begin()
            connection.endpoint.idle.append(connection)
        else:
            self._drop(connection)

    def _end(self, connection: Connection) -> None:
        """Handle that the server has closed the connection."""
        reader, response = connection.reader, connection.response
        if reader is None:
            self._drop(connection)
        elif response.close():
            if response.status != 200:
                raise connection.refusal_failure()
            try:
                self._finish_answer(connection, reader.finish(is_delimited=False))
            except BadAnswer as error:
                raise connection.answer_failure(str(error)) from None
        else:
            self._break(connection, "the server closed the connection")

    def _break(
        self, connection: Connection, problem: str, error: OSError | None = None
    ) -> None:
        """Fail, or send again where an idle connection had been closed unnoticed.

        Sending again is counted, and the time before it counts too.
        """
        if connection.reader is None:
            self._drop(connection)
            return
        is_reset = isinstance(error, ConnectionResetError)
        if not connection.was_closed_while_idle(is_reset=is_reset):
            raise connection.broken_failure(problem)
        connection.take_back()
        del self.busy[connection.fd]
        connection.reader = None
        self._waiting.appendleft((connection.ticket, connection.sample))
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self.connections.pop(connection.fd, None) is None:
            return
        self._epoll.unregister(connection.fd)
        connection.socket.close()
        endpoint = connection.endpoint
        endpoint.connections -= 1
        if connection in endpoint.idle:
            endpoint.idle.remove(connection)
