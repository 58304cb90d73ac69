"""Requests that are longer than what the sockets between hold."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai.protocol import Dialect
from tests.support.endpoint_double import format_page
from tests.support.recording_listener import RecordingListener

BODY_BYTES = 6 << 20
"""Above the 4 MiB that Linux lets a socket's send buffer grow to."""
RECEIVE_BYTES = 1 << 16
"""What the server's kernel holds at most."""

DIALECT = Dialect("m", stream=False)
BODIES = [
    DIALECT.request(Prompt(letter * (BODY_BYTES + 1000 * number)))
    for number, letter in enumerate("abc")
]


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose head has been read."""

    connection: socket.socket
    begun: bytes
    """What of the body came with it."""
    length: int
    """Of the body."""
    is_over: threading.Event
    """Set when the client has nothing more to say."""


Serve = Callable[[Request], bool]
"""Answers a request; returns whether the connection is kept."""


def format_answer(text: str) -> bytes:
    choice = {"text": text, "message": {"content": text}}
    usage = {"completion_tokens": 1}
    return format_page(200, json.dumps({"choices": [choice], "usage": usage}))


def read_whole(request: Request) -> bool:
    """Read the body, and answer with its hash."""
    digest = hashlib.sha256(request.begun)
    left = request.length - len(request.begun)
    while left:
        data = request.connection.recv(min(left, 4096))
        if not data:
            return False
        digest.update(data)
        left -= len(data)
    request.connection.sendall(format_answer(digest.hexdigest()))
    return True


def refuse(request: Request) -> bool:
    """Answer by the head alone and close, with the body unread."""
    request.connection.sendall(format_page(413, f"{request.length} bytes, at most 9"))
    return False


def drop(request: Request) -> bool:  # noqa: ARG001 - one shape
    """Close without a word, with the body unread."""
    return False


def answer_early(request: Request) -> bool:
    """Answer by the head alone, and keep the connection."""
    request.connection.sendall(format_answer("ready before you asked"))
    return request.is_over.wait()


def answer_and_close(request: Request) -> bool:
    request.connection.sendall(format_answer("ready before you asked"))
    return False


@contextmanager
def serve(behavior: Serve, certificate: Path | None = None) -> Iterator[str]:
    """Serve connections one after another; yields the URL."""
    with socket.socket() as listener:
        # Accepted sockets inherit it; later it would not hold.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        over = threading.Event()
        thread = threading.Thread(
            target=_accept, args=(listener, behavior, certificate, over)
        )
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield (
                f"https://localhost:{port}"
                if certificate
                else f"http://127.0.0.1:{port}"
            )
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(
    listener: socket.socket,
    behavior: Serve,
    certificate: Path | None,
    over: threading.Event,
) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            # Else an answer may wait behind TLS's tickets, and the close discards it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, suppress(OSError):
                spoken = connection
                if context:
                    spoken = context.wrap_socket(connection, server_side=True)
                with spoken:
                    while _answer_one(spoken, behavior, over):
                        pass


def _answer_one(
    connection: socket.socket, behavior: Serve, over: threading.Event
) -> bool:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        if not data:
            return False
        head += data
    head, _, begun = head.partition(b"\r\n\r\n")
    match = re.search(rb"Content-Length: (\d+)", head)
    assert match
    return behavior(Request(connection, begun, int(match[1]), over))


def send_bodies(url: str, *, ca: Path | None = None) -> RecordingListener:
    """Send each body on one connection; return what came."""
    address = Address.parse(url, str(ca) if ca else None)
    head = http1.format_head("POST", DIALECT.path, address.authority, {})
    requests = {n: http1.format_body(body) for n, body in enumerate(BODIES)}
    listener = RecordingListener(len(BODIES))
    client = HttpClient(
        [Endpoint(address, head, 1)],
        requests,
        lambda _: DIALECT.open_reader(8),
        listener,
    )
    try:
        for number in range(len(BODIES)):
            client.submit(number, number)
        listener.wait()
    finally:
        client.close()
    return listener


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest) -> Path | None:
    """The server's certificate; None without TLS."""
    is_tls = request.param == "https"
    return request.getfixturevalue("certificate") if is_tls else None


def test_a_long_request_arrives_whole_and_the_next_one_behind_it(
    tls: Path | None,
) -> None:
    """Each on the same connection, though the sockets hold a part of one at a time."""
    with serve(read_whole, tls) as url:
        listener = send_bodies(url, ca=tls)

    assert listener.error is None
    assert {n: one.text for n, one in listener.answers.items()} == {
        n: hashlib.sha256(body).hexdigest() for n, body in enumerate(BODIES)
    }


@pytest.mark.parametrize(
    ("behavior", "found"),
    [
        (refuse, r"HTTP 413: \d+ bytes, at most 9$"),
        (drop, r"before the answer"),
        (answer_early, "answered before it had the request: .* bytes"),
        (answer_and_close, "answered before it had the request: .* bytes"),
    ],
)
def test_a_server_that_does_not_read_a_long_request_is_told(
    tls: Path | None, behavior: Serve, found: str
) -> None:
    """Its refusal says more than the connection that broke; and an answer to what it
    has not read is none.
    """
    with serve(behavior, tls) as url:
        listener = send_bodies(url, ca=tls)

    assert isinstance(listener.error, RequestFailed)
    assert re.search(found, str(listener.error)), listener.error
    assert not listener.answers
