"""A small HTTP server of one file, on loopback, that misbehaves as its path says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer

CONTENT = bytes(range(256)) * 1000


@dataclass
class Requests:
    """What was asked: path and Range of each request."""

    port: int = 0
    seen: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"


class FileHandler(BaseHTTPRequestHandler):
    """``/good`` sends the file; other paths break off, lie or send something else."""

    requests: Requests

    def do_GET(self) -> None:
        path, asked = self.path[1:].replace("%20", " "), self.headers.get("Range", "")
        first = path not in [seen for seen, _ in self.requests.seen]
        self.requests.seen.append((path, asked))
        if path == "gone":
            self.send_error(404)
        elif path == "busy" and first:
            self.send_error(503)
        elif path == "page":
            self._send(b"<html>log in first</html>", kind="text/html")
        elif path == "wrong":
            self._send(CONTENT[::-1], asked)
        elif path == "wrong size":
            self._send(CONTENT + b"more", asked)
        elif path == "ignores range":
            self._send(CONTENT, upto=100_000 if first else None)
        elif path == "shifted" and asked:
            self._send(CONTENT, "bytes=7-")
        elif path == "breaks off" and len(self.requests.seen) < 4:
            self._send(CONTENT, asked, upto=60_000)
        elif path == "lies":
            self._send(CONTENT, asked, upto=100_000, claim=len(CONTENT) + 5)
        else:
            self._send(CONTENT, asked)

    def _send(
        self,
        content: bytes,
        asked: str = "",
        *,
        upto: int | None = None,
        claim: int = 0,
        kind: str = "application/octet-stream",
    ) -> None:
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        total = claim or len(content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(total - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        self.wfile.write(content[start:][:upto])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve_file() -> Iterator[Requests]:
    """Serve in a thread; yield the log of requests."""
    requests = Requests()
    handler = type("Handler", (FileHandler,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        requests.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield requests
        finally:
            server.shutdown()
            thread.join()
