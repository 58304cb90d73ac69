"""When a request may go out again: where the server closed before it had it."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.connection import Connection
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.http.connection_pool import ConnectionPool
from pytest_mlperf.services.http.tcp_state import TcpState
from pytest_mlperf.services.openai.protocol import Dialect
from tests.support import endpoint_double as endpoint

REQUEST = b"X: " + b"y" * 200 + b"\r\n\r\n"
ANSWER = endpoint.format_stream({"text": "a"}, {"text": "b"}, {"text": "c"})


@dataclass
class Pair:
    """A pool with one connection that was answered once, and its other end."""

    pool: ConnectionPool
    connection: Connection
    waiting: deque[tuple[int, int]]
    server: socket.socket

    def receive(self) -> None:
        """Handle what the server did, once it is there."""
        select.select([self.connection.fd], [], [], 10)
        self.pool.handle(self.connection, select.EPOLLIN)

    def answer(self) -> None:
        self.server.recv(1 << 16)
        self.server.sendall(ANSWER)
        self.receive()

    def act_as_busy(self) -> None:
        """Have the next request follow at once: nobody looks at the connection."""
        self.connection.last_s = time.monotonic() + 3600


@contextmanager
def open_pair(*, has_answered: bool = True) -> Iterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ours = socket.create_connection(("127.0.0.1", port))
        server, _ = listener.accept()
    ours.setblocking(False)
    waiting: deque[tuple[int, int]] = deque()
    with select.epoll() as epoll, server:
        reader = Dialect("m").open_reader
        pool = ConnectionPool(epoll, {0: REQUEST}, lambda _: reader(8), waiting)
        url = f"http://127.0.0.1:{port}"
        pool.add(ours, Endpoint(Address.parse(url), b"POST / HTTP/1.1\r\n", 1))
        (connection,) = pool.connections.values()
        pair = Pair(pool, connection, waiting, server)
        if has_answered:
            assert pool.send(connection, 1, 0)
            pair.answer()
        try:
            yield pair
        finally:
            pool.close()


def test_a_connection_that_was_closed_gets_no_request() -> None:
    """It is looked at first, so that nothing is lost and nothing sent twice."""
    with open_pair() as pair:
        pair.server.close()
        pair.connection.last_s = 0.0
        was_sent = pair.pool.send(pair.connection, 2, 0)
        stats = pair.connection.endpoint.stats

    assert not was_sent
    assert (stats.sent, stats.resent, stats.outstanding) == (1, 0, 0)


def test_a_request_that_crosses_the_close_goes_out_again_and_is_counted() -> None:
    """Nothing of it was acknowledged: the server had closed before it came."""
    with open_pair() as pair:
        pair.server.close()
        pair.act_as_busy()
        assert pair.pool.send(pair.connection, 2, 0)
        pair.connection.sent_s = time.monotonic() - 1  # seen late, all the same
        pair.receive()
        stats = pair.connection.endpoint.stats

        assert list(pair.waiting) == [(2, 0)]
    assert (stats.sent, stats.resent, stats.outstanding) == (1, 1, 0)


@pytest.mark.parametrize(
    ("reads", "pause_s"), [(True, 0.0), (True, 0.05), (False, 0.05)]
)
def test_a_request_that_the_server_had_is_lost(*, reads: bool, pause_s: float) -> None:
    """However soon it closes, and whether it looked at the request or not."""
    with open_pair() as pair:
        pair.act_as_busy()
        pair.pool.send(pair.connection, 2, 0)
        if reads:
            pair.server.recv(1 << 16)
        time.sleep(pause_s)
        pair.server.close()
        with pytest.raises(RequestFailed, match="before the answer"):
            pair.receive()

        assert not pair.waiting


def test_a_first_request_is_never_sent_again() -> None:
    """Its connection was never idle between two answers."""
    with open_pair(has_answered=False) as pair:
        pair.server.close()
        assert pair.pool.send(pair.connection, 2, 0)
        with pytest.raises(RequestFailed, match="before the answer"):
            pair.receive()


def test_an_answer_that_has_begun_is_never_asked_for_again() -> None:
    """An interim response is its beginning too."""
    with open_pair() as pair:
        pair.act_as_busy()
        pair.pool.send(pair.connection, 2, 0)
        pair.server.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        pair.receive()
        pair.server.close()
        with pytest.raises(RequestFailed, match="in the middle of the answer"):
            pair.receive()


def test_the_kernel_counts_what_the_other_end_has() -> None:
    """The round trip is a real one, and no byte is counted that was not sent."""
    with open_pair() as pair:
        state = TcpState.read(pair.connection.socket)
        pair.connection.socket.send(b"x" * 1000)
        pair.server.recv(1 << 16)
        pair.server.sendall(b"y")  # with it comes what would be held back
        select.select([pair.connection.fd], [], [], 10)
        later = TcpState.read(pair.connection.socket)

    assert state.acknowledged == pair.connection.sent_bytes == state.sent
    assert later.acknowledged == pair.connection.sent_bytes + 1000
    assert 0 < state.round_trip_s < 1
