"""A server of ``/v1/audio/transcriptions`` that transcribes what it is sent."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.support.serving import serve_in_thread

MODEL = "whisper-tiny.en"
Transcribe = Callable[[NDArray[np.int16]], str]
"""A recording's samples, 16 kHz -> what is said."""


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a form by the standard library's reader of mail."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    fields = {}
    for part in message_from_bytes(head + body, policy=HTTP).iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields[str(name)] = content
    return fields


@contextmanager
def serve(transcribe: Transcribe) -> Iterator[str]:
    """Serve one model while the block runs, and give the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.reply(200, {"data": [{"id": MODEL}]})
            else:
                self.reply(404, {"error": "not here"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            form = read_form(self.headers["Content-Type"], body)
            wanted = {"model": MODEL, "response_format": "json", "temperature": "0"}
            wrong = {k: v for k, v in wanted.items() if form.get(k) != v.encode()}
            if self.path != "/v1/audio/transcriptions" or wrong:
                self.reply(400, {"error": f"{self.path}, not {wrong}"})
                return
            sound, rate = soundfile.read(io.BytesIO(form["file"]), dtype="int16")
            assert rate == 16_000
            try:
                self.reply(200, {"text": transcribe(sound)})
            except ValueError as error:
                self.reply(500, {"error": str(error)})

        def reply(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serve_in_thread(server) as url:
        yield url
