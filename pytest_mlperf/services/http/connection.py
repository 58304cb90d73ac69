"""One endpoint's connections, and the request that each of them carries."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.http1 import ResponseReader
from pytest_mlperf.services.http.tcp_state import TcpState

SHOWN_CHARACTERS = 300
"""Characters of a refusal's body that its message shows."""
READ_BYTES = 1 << 13
"""Bytes of it that are read: secrets are hidden before anything is cut."""
LOCATION = re.compile(rb"\r\nlocation:[ \t]*([^\r]+)", re.IGNORECASE)
CODING = re.compile(rb"\r\ncontent-encoding:[ \t]*(?!identity)([^\r]+)", re.IGNORECASE)
TOO_MANY = (
    "; the server takes no more requests, and none is sent again: raise its limit, or "
    "ask for fewer at once (--mlperf-endpoint-concurrency)"
)
REMEDIES = {429: TOO_MANY, 503: TOO_MANY}
RESET_S = 0.005
"""A reset that comes later than this, beyond a round trip, was no answer to what was
sent: the server had closed with the request unread."""
LEAST_PAUSE_S, MOST_PAUSE_S = 0.038, 0.046
"""How long Linux holds an acknowledgement back, at least (TCP_DELACK_MIN)."""
PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT


class AnswerReader(Protocol):
    """Reads the body of one answer."""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; return True when they hold the first token."""

    @property
    def first(self) -> Answer:
        """The first token, once ``feed`` has returned True."""

    @property
    def events(self) -> int:
        """Events that brought tokens."""

    @property
    def event_tokens(self) -> Sequence[int]:
        """How many tokens each of them brought, where that is known."""

    @property
    def passed_over(self) -> int:
        """Events and fields that are no part of an answer."""

    def describe(self) -> str:
        """Return what of the answer was read, for a message; may be empty."""

    def finish(self, *, is_delimited: bool = True) -> Answer:
        """Return the answer; raises ``BadAnswer`` for one that does not count.

        ``is_delimited``: something else than the closed connection tells its end.
        """


class Endpoint:
    """One URL: its connections and its figures."""

    __slots__ = ("address", "connections", "head", "idle", "limit", "opening", "stats")

    def __init__(self, address: Address, head: bytes, limit: int) -> None:
        self.address = address
        self.head = head
        self.limit = limit
        """Connections at most."""
        self.idle: list[Connection] = []
        self.connections = 0
        self.opening = 0
        self.stats = EndpointStats(address.url)


class Connection:
    """One keep-alive connection, and the request that it carries."""

    __slots__ = (
        "endpoint", "fd", "has_begun", "is_reused", "last_s", "reader", "refusal",
        "response", "sample", "sent_before", "sent_bytes", "sent_s", "socket",
        "ticket", "unsent",
    )  # fmt: skip

    def __init__(self, connected: socket.socket, endpoint: Endpoint) -> None:
        self.socket = connected
        self.fd = connected.fileno()
        self.endpoint = endpoint
        self.response = ResponseReader()
        self.reader: AnswerReader | None = None
        """None: the connection is idle."""
        self.ticket = self.sample = 0
        self.sent_s = self.last_s = 0.0
        """When the request was sent, and when bytes arrived last (monotonic)."""
        self.sent_bytes = self.sent_before = 0
        """Bytes sent in all, and before the request that is carried now."""
        self.unsent = memoryview(b"")
        """What of the request the socket had no room for yet."""
        self.refusal = b""
        self.is_reused = False
        """The connection has carried a whole answer before."""
        self.has_begun = False
        """The first token of the answer has arrived."""

    def begin_request(
        self, ticket: int, sample: int, reader: AnswerReader, now: float
    ) -> None:
        """Note that a request is being sent."""
        self.ticket, self.sample, self.reader = ticket, sample, reader
        self.sent_s = self.last_s = now
        self.sent_before = self.sent_bytes
        self.refusal = b""
        self.has_begun = False
        self.endpoint.stats.begin()

    def take_back(self) -> None:
        """Note that the request goes out again, on another connection."""
        stats = self.endpoint.stats
        stats.resent += 1
        stats.sent -= 1
        stats.outstanding -= 1

    def note_answer(self, answer: Answer) -> None:
        """Add an answer to the endpoint's figures."""
        stats, reader = self.endpoint.stats, self.reader
        stats.answered += 1
        stats.outstanding -= 1
        stats.tokens += answer.tokens
        stats.answer_s += self.last_s - self.sent_s
        if reader and reader.events:
            stats.events += reader.events
            if reader.event_tokens:
                stats.event_tokens.update(reader.event_tokens)
            stats.passed_over += reader.passed_over

    def note_first_token(self, now: float) -> None:
        """Note that the first token of the answer has arrived."""
        self.has_begun = True
        self.endpoint.stats.first_token_s += now - self.sent_s

    def note_arrival(self, now: float, *, is_first: bool) -> None:
        """Note that a part of the answer has arrived, and whether after a pause that
        a delayed acknowledgement makes.
        """
        if not is_first:
            stats = self.endpoint.stats
            stats.later_parts += 1
            stats.pauses += LEAST_PAUSE_S < now - self.last_s < MOST_PAUSE_S
        self.last_s = now

    def acknowledge(self) -> None:
        """Acknowledge at once what has arrived, while more is to come.

        A server that waits for it before its next small write (RFC 896) would pause
        for 40 ms.
        """
        with suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def read_left(self) -> bytes:
        """Return what still lies here of a connection that broke; empty at its end."""
        with suppress(OSError):
            return self.socket.recv(READ_BYTES)
        return b""

    def has_closed(self) -> bool:
        """Return whether the server has closed the connection, while it is idle."""
        try:
            # Below TLS, which cannot peek.
            return not socket.socket.recv(self.socket, 1, PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def was_closed_while_idle(self, *, is_reset: bool) -> bool:
        """Return whether the server had closed before the request reached it.

        RFC 9112, 9.3.1: a server may close an idle connection just as a request is on
        its way. That is so where the close came within a round trip, or where nothing
        of the request was acknowledged. A reset acknowledges nothing, so it has to come
        at once. A server that took the request and closed then has dropped it.
        """
        if not self.is_reused or self.response.started:
            return False
        after_s = time.monotonic() - self.sent_s
        state = TcpState.read(self.socket)
        if after_s <= state.round_trip_s:
            return True
        # Of TLS only the kernel's count is whole; both are too small where they err.
        own = self.sent_bytes - self.sent_before
        before = max(self.sent_before, state.sent - own)
        is_new = state.acknowledged is not None and state.acknowledged <= before
        return is_new and (not is_reset or after_s <= state.round_trip_s + RESET_S)

    def failure(self, problem: str) -> RequestFailed:
        """Return the error of the request that the connection carries."""
        after_s = time.monotonic() - self.sent_s
        return RequestFailed(self.endpoint.address.url, self.sample, after_s, problem)

    def broken_failure(self, problem: str) -> RequestFailed:
        """Return the error of a connection that broke, and how far the answer was."""
        if not self.response.started:
            return self.failure(f"{problem} before the answer")
        read = self.reader.describe() if self.reader else ""
        shown = f"; {read}" if read else ""
        return self.failure(f"{problem} in the middle of the answer{shown}")

    def early_failure(self) -> RequestFailed:
        """Return the error of an answer to a request that is still being sent."""
        return self.failure(
            "the server answered before it had the request: "
            f"{len(self.unsent):,} bytes of it were not sent yet"
        )

    def answer_failure(self, problem: str) -> RequestFailed:
        """Return the error of an answer that does not count.

        A coding that nobody asked for is why nothing in it could be read.
        """
        if coded := CODING.search(self.response.fields):
            problem = (
                f"Content-Encoding: {cut(coded[1], 40)}, but identity was "
                f"asked for; switch the server's compression off ({problem})"
            )
        return self.failure(problem)

    def refusal_failure(self) -> RequestFailed:
        """Return the error of a request that was answered with another status."""
        body = cut(self.refusal, SHOWN_CHARACTERS).strip()
        status = f"HTTP {self.response.status}"
        if place := LOCATION.search(self.response.fields):
            where = cut(place[1], SHOWN_CHARACTERS)
            status += (
                f" to {where}, but redirects are not followed; name that server with "
                "--mlperf-endpoint"
            )
        status = f"{status}: {body}" if body else status
        return self.failure(status + REMEDIES.get(self.response.status, ""))
