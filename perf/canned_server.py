"""Servers that return one response to every request: the client is the limit.

``python -m perf.canned_server TOKENS [--stream]`` listens on a free port of
loopback, prints it, and ends when its standard input closes. One answer a write. With
``--ports N --slots K --seconds S`` it is N endpoints, each of which works on K requests
at a time for S seconds each: so many answers a second and no more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading
from collections import deque
from functools import partial

WORD = "token "


def chunk(document: object) -> bytes:
    text = document if isinstance(document, str) else json.dumps(document)
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(tokens: int, *, stream: bool) -> bytes:
    """Return a whole HTTP response of that many tokens."""
    usage = {"completion_tokens": tokens}
    if not stream:
        choice = {"index": 0, "text": WORD * tokens, "finish_reason": "length"}
        body = json.dumps({"choices": [choice], "usage": usage}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    parts = [{"choices": [{"index": 0, "text": WORD}]}] * tokens
    chunks = [*map(chunk, parts), chunk({"choices": [], "usage": usage})]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(chunks) + chunk("[DONE]") + b"0\r\n\r\n"


class Endpoint:
    """What one port does with its requests."""

    def __init__(self, response: bytes, slots: int, seconds: float) -> None:
        self.response = response
        self.free = slots
        self.seconds = seconds
        self.waiting: deque[asyncio.Transport] = deque()

    def receive(self, transport: asyncio.Transport) -> None:
        """Answer at once, or when a slot has worked on it."""
        if not self.seconds:
            transport.write(self.response)
            return
        self.waiting.append(transport)
        self.work()

    def work(self) -> None:
        loop = asyncio.get_running_loop()
        while self.free and self.waiting:
            self.free -= 1
            loop.call_later(self.seconds, self.finish, self.waiting.popleft())

    def finish(self, transport: asyncio.Transport) -> None:
        transport.write(self.response)
        self.free += 1
        self.work()


class Canned(asyncio.Protocol):
    """Answers each request, which comes in one piece."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        del data
        self.endpoint.receive(self.transport)


async def serve(args: argparse.Namespace) -> None:
    """Serve until the standard input closes."""
    loop = asyncio.get_running_loop()
    response = answer(args.tokens, stream=args.stream)
    servers = []
    for _ in range(args.ports):
        endpoint = Endpoint(response, args.slots, args.seconds)
        protocol = partial(Canned, endpoint)
        servers.append(await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096))
    end = asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(end.set)

    threading.Thread(target=wait, daemon=True).start()
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(*ports, flush=True)  # noqa: T201 - its purpose
    await end.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=int)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.0)
    asyncio.run(serve(parser.parse_args()))
