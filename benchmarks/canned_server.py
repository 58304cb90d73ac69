"""A server that says one thing, whatever it is asked: the client is the limit.

``python -m benchmarks.canned_server TOKENS [--stream]`` listens on a free port of
loopback, prints it, and ends when its standard input closes. One answer a write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import threading

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


class Canned(asyncio.Protocol):
    """Answers each request, which comes in one piece."""

    said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        del data
        self.transport.write(self.said)


async def serve() -> None:
    """Serve until the standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Canned, "127.0.0.1", 0, backlog=4096)
    over = asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait, daemon=True).start()
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - its purpose
    await over.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tokens", type=int)
    parser.add_argument("--stream", action="store_true")
    given = parser.parse_args()
    Canned.said = answer(given.tokens, stream=given.stream)
    asyncio.run(serve())
