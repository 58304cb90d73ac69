"""A small real HTTP server that answers as an LLM endpoint does, or wrongly.

Speaks as much HTTP as the tests need, on loopback, one thread a connection.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field

TOKENS = 3
Send = Callable[[bytes], None]
Behaviour = Callable[[Send, int], bool]
"""Answers request number n; False closes the connection after it."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: object) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return chunk(f"data: {text}\n\n".encode())


def token(text: str) -> bytes:
    return event({"choices": [{"index": 0, "text": text}]})


START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = event({"choices": [], "usage": {"completion_tokens": TOKENS}})
END = event("[DONE]") + b"0\r\n\r\n"


def good(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
    """Answer with three tokens, as they come."""
    send(START)
    for text in "abc":
        send(token(text))
    send(USAGE + END)
    return True


def status(code: int, text: str) -> Behaviour:
    """Answer with an error status."""

    def answer(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
        body = text.encode()
        send(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n" % (code, len(body)) + body)
        return True

    return answer


def says(*parts: bytes, keep: bool = False) -> Behaviour:
    """Answer with these bytes and, unless ``keep``, close."""

    def answer(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
        for part in parts:
            send(part)
        return keep

    return answer


def after(count: int, then: Behaviour) -> Behaviour:
    """Answer well that many times, then otherwise."""

    def answer(send: Send, number: int) -> bool:
        return (good if number < count else then)(send, number)

    return answer


def stall(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
    """Send one token, and nothing more for a while."""
    send(START + token("a"))
    time.sleep(2)
    return False


@dataclass
class Double:
    """A running server."""

    port: int
    scheme: str = "http"
    requests: list[bytes] = field(default_factory=list)
    most_connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"


@contextmanager
def serving(
    behaviour: Behaviour = good, context: ssl.SSLContext | None = None
) -> Iterator[Double]:
    """Serve on a free port of loopback until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    double = Double(listener.getsockname()[1], "https" if context else "http")
    lock = threading.Lock()
    threads: list[threading.Thread] = []

    def connection(plain: socket.socket) -> None:
        with suppress(OSError), plain:
            made = context.wrap_socket(plain, server_side=True) if context else plain
            with made as sock:
                with lock:
                    double._open.append(sock)
                    now = len(double._open)
                    double.most_connections = max(double.most_connections, now)
                try:
                    converse(sock)
                finally:
                    with lock:
                        double._open.remove(sock)

    def converse(sock: socket.socket) -> None:
        data = b""
        keep = True
        while keep:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(data) < length:
                data += sock.recv(65536)
            with lock:
                number = len(double.requests)
                double.requests.append(head + b"\r\n\r\n" + data[:length])
            data = data[length:]
            keep = behaviour(sock.sendall, number)

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                thread = threading.Thread(target=connection, args=(plain,), daemon=True)
                threads.append(thread)
                thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield double
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with lock:
            for sock in double._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in (acceptor, *threads):
            thread.join()
