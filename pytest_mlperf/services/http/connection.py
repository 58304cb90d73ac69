"""One endpoint's connections, and the request that each of them carries."""

from __future__ import annotations

import socket
import time
from typing import Protocol

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.core.redaction import cut
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.http1 import ResponseReader

SHOWN_CHARACTERS = 300
"""Characters of a refusal's body that its message shows."""
READ_BYTES = 1 << 13
"""Bytes of it that are read: secrets are hidden before anything is cut."""
IDLE_S = 1.0
"""A reused connection that closes later than this after a request was sent was not
closed while it was idle: the server had received the request and dropped it."""


class AnswerReader(Protocol):
    """Reads the body of one answer."""

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body; return True when they hold the first token."""

    @property
    def first(self) -> Answer:
        """The first token, once ``feed`` has returned True."""

    def finish(self) -> Answer:
        """Return the answer; raises ``BadAnswer`` for one that does not count."""


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
        "response", "sample", "sent_s", "socket", "ticket", "unsent",
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
        self.unsent = b""
        self.refusal = b""
        self.is_reused = False
        """The connection has carried a whole answer before."""
        self.has_begun = False
        """The first token of the answer has arrived."""

    def failure(self, problem: str) -> RequestFailed:
        """Return the error of the request that the connection carries."""
        after_s = time.monotonic() - self.sent_s
        return RequestFailed(self.endpoint.address.url, self.sample, after_s, problem)

    def refusal_failure(self) -> RequestFailed:
        """Return the error of a request that was answered with another status."""
        body = cut(self.refusal, SHOWN_CHARACTERS).strip()
        status = f"HTTP {self.response.status}"
        return self.failure(f"{status}: {body}" if body else status)
