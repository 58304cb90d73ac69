"""A small real server of the open inference protocol, version 2, on loopback.

It answers with onnxruntime, one request at a time, and knows binary tensors alone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.serving import serve_in_thread

HEADER = "Inference-Header-Content-Length"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    session: Any
    infer = threading.Lock()

    def do_GET(self) -> None:
        known = self.path == "/v2/models/resnet50"
        found = {"name": "resnet50", "platform": "onnxruntime_onnx"}
        body = json.dumps(found if known else {"error": "unknown model"}).encode()
        self._reply(200 if known else 404, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        at = int(self.headers[HEADER])
        inputs = {}
        for one in json.loads(body[:at])["inputs"]:
            size = one["parameters"]["binary_data_size"]
            assert one["datatype"] == "FP32"
            array = np.frombuffer(body[at : at + size], np.float32)
            inputs[one["name"]] = array.reshape(one["shape"])
            at += size
        with self.infer:
            (scores,) = self.session.run(None, inputs)
        output = {
            "name": "logits",
            "shape": scores.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": scores.nbytes},
        }
        head = json.dumps({"model_name": "resnet50", "outputs": [output]}).encode()
        self._reply(200, head + scores.tobytes(), length=len(head))

    def _reply(self, status: int, body: bytes, length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if length:
            self.send_header(HEADER, str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 1024


@contextmanager
def serve_model(path: Path) -> Iterator[str]:
    """Serve an ONNX file as ``resnet50`` while the block runs; yield the URL."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"session": session}))
    with serve_in_thread(server) as url:
        yield url
