"""A small real HTTP server on loopback that answers like an LLM endpoint, or wrongly.

It has one thread for each connection.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field

TOKENS = 3
ANSWERED_WELL = 6
"""Requests that a faulty server answers well: the test completion, and some of a
run."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends the parts of one answer to the request that it holds."""

    sock: socket.socket
    request: bytes

    def __call__(self, data: bytes) -> None:
        self.sock.sendall(data)

    @property
    def streams(self) -> bool:
        """Whether the request asks for a stream."""
        return b'"stream":false' not in self.request


Behavior = Callable[[Sender, int], bool]
"""Answers request number n; returning False closes the connection."""


def format_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def format_event(document: object) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    return format_chunk(f"data: {text}\n\n".encode())


def format_token(text: str) -> bytes:
    return format_event({"choices": [{"index": 0, "text": text}]})


START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = format_event({"choices": [], "usage": {"completion_tokens": TOKENS}})
END = format_event("[DONE]") + b"0\r\n\r\n"


def format_stream(*choices: object) -> bytes:
    """Return a whole answer with one event for each choice."""
    events = [format_event({"choices": [choice]}) for choice in choices]
    return START + b"".join(events) + USAGE + END


def answer_well(send: Sender, number: int) -> bool:  # noqa: ARG001 - one shape
    """Answer with three tokens, as a stream or as one document."""
    if not send.streams:
        choice = {"text": "abc", "message": {"content": "abc"}}
        usage = {"completion_tokens": TOKENS}
        send(format_page(200, json.dumps({"choices": [choice], "usage": usage})))
        return True
    send(START)
    for text in "abc":
        send(format_token(text))
    send(USAGE + END)
    return True


def format_page(code: int, text: str) -> bytes:
    body = text.encode()
    return b"HTTP/1.1 %d Is\r\nContent-Length: %d\r\n\r\n" % (code, len(body)) + body


def format_model_list(*models: str) -> bytes:
    return format_page(200, json.dumps({"data": [{"id": name} for name in models]}))


PAGES = {"/health": format_page(200, ""), "/v1/models": format_model_list("m")}
"""Path -> reply to a GET."""


def answer_status(code: int, text: str) -> Behavior:
    """Answer with an error status."""

    def answer(send: Sender, number: int) -> bool:  # noqa: ARG001 - one shape
        send(format_page(code, text))
        return True

    return answer


def send_parts(*parts: bytes, keep: bool = False) -> Behavior:
    """Answer with these bytes; close the connection unless ``keep``."""

    def answer(send: Sender, number: int) -> bool:  # noqa: ARG001 - one shape
        for part in parts:
            send(part)
        return keep

    return answer


def answer_well_until(count: int, then: Behavior) -> Behavior:
    """Answer ``count`` requests well, and later ones with ``then``."""

    def answer(send: Sender, number: int) -> bool:
        return (answer_well if number < count else then)(send, number)

    return answer


def stall(send: Sender, number: int) -> bool:  # noqa: ARG001 - one shape
    """Send one token, and nothing else until the client closes."""
    send(START + format_token("a"))
    send.sock.recv(1)
    return False


@dataclass
class EndpointDouble:
    """A running server."""

    port: int
    scheme: str = "http"
    requests: list[bytes] = field(default_factory=list)
    """The posted requests."""
    most_connections: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"


ServeEndpoint = Callable[..., EndpointDouble]
"""The fixture ``serve``: ``serve_endpoint`` until the test ends."""


@contextmanager
def serve_endpoint(
    behavior: Behavior = answer_well,
    context: ssl.SSLContext | None = None,
    pages: Mapping[str, bytes] = PAGES,
    key: str = "",
    port: int = 0,
) -> Iterator[EndpointDouble]:
    """Serve until the block ends; port 0 takes a free one.

    ``key``: the bearer token that every request must have.
    """
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    double = EndpointDouble(listener.getsockname()[1], "https" if context else "http")
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
            if key and f"Authorization: Bearer {key}".encode() not in head:
                sock.sendall(format_page(401, "who are you?"))
                return
            if head.startswith(b"GET "):
                path = head.split()[1].decode()
                sock.sendall(pages.get(path, format_page(404, "no such page")))
                continue
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(data) < length:
                data += sock.recv(65536)
            with lock:
                number = len(double.requests)
                request = head + b"\r\n\r\n" + data[:length]
                double.requests.append(request)
            data = data[length:]
            keep = behavior(Sender(sock, request), number)

    def accept() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                # Otherwise every second part of an answer waits for the client's ACK.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
