"""A small server of KServe v2 over HTTP: one model, and a thread a connection.

Health, metadata, configuration, counters, and inference with binary tensors or JSON. It
has no authentication and no TLS: it belongs into a network that is trusted.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from importlib.metadata import version
from typing import Any

from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.api.served_model import TensorForm
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.services.kserve.arrivals import Arrival
from pytest_mlperf.services.kserve.arrivals import Arrivals
from pytest_mlperf.services.kserve.arrivals import ServerEnds
from pytest_mlperf.services.kserve.preflight import BINARY
from pytest_mlperf.services.kserve.served_tensors import BadRequest
from pytest_mlperf.services.kserve.served_tensors import format_answer
from pytest_mlperf.services.kserve.served_tensors import read_request
from pytest_mlperf.services.kserve.statistics import PHASES
from pytest_mlperf.services.kserve.tensors import DATATYPES
from pytest_mlperf.services.kserve.tensors import HEAD_LENGTH

EXTENSIONS = (BINARY, "model_configuration", "model_repository", "statistics")
MOST_BYTES = 1 << 30
"""Of a request's body: a larger one is no sample."""
IDLE_S = 600.0
"""A connection on which nobody asks anything for this long is closed."""
GRACE_S = 2.0
"""How long the end waits for answers to be sent, once they are there."""


class HttpRefusal(Exception):
    """An answer that is an error: HTTP status, and the text."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class Counters:
    """What the statistics extension tells of the model; times are nanoseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._failed = self._rows = self._ns = 0
        self._executions = 0.0
        self._phase_ns = [0] * len(PHASES)

    def add(self, arrival: Arrival, ns: int) -> None:
        """Count an answer that was sent; ``ns``: from its request's head on."""
        with self._lock:
            self._requests += 1
            self._rows += arrival.rows
            self._ns += ns
            self._executions += arrival.executions
            for at, own in enumerate(arrival.phase_ns):
                self._phase_ns[at] += own

    def add_failure(self) -> None:
        with self._lock:
            self._failed += 1

    def to_document(self, model: ServedModel) -> dict[str, Any]:
        """Return the extension's JSON value."""
        with self._lock:
            count = self._requests
            stats = {
                "success": {"count": count, "ns": self._ns},
                "fail": {"count": self._failed, "ns": 0},
            }
            for name, ns in zip(PHASES, self._phase_ns, strict=True):
                stats[name] = {"count": count, "ns": ns}
            own = {
                "name": model.name, "version": "1", "inference_stats": stats,
                "inference_count": self._rows,
                "execution_count": round(self._executions),
            }  # fmt: skip
        return {"model_stats": [own]}


@dataclass(frozen=True, slots=True)
class ServedPages:
    """What the server says of itself and its model, as JSON values."""

    model: ServedModel
    node: str
    counters: Counters

    def find(self, path: str) -> Any:
        """Return a page; raises ``HttpRefusal`` for one that is not there."""
        name = self.model.name
        own = f"/v2/models/{name}"
        pages: dict[str, Any] = {
            "/v2": self._describe_server,
            "/v2/health/live": dict,
            "/v2/health/ready": dict,
            "/v2/repository/index": lambda: [
                {"name": name, "version": "1", "state": "READY"}
            ],
            own: self._describe_model,
            f"{own}/ready": dict,
            f"{own}/config": self._describe_config,
            f"{own}/stats": lambda: self.counters.to_document(self.model),
        }
        if path not in pages:
            raise HttpRefusal(
                404, f"no {path} here; the model is {name!r} ({own}/infer)"
            )
        return pages[path]()

    def _describe_server(self) -> dict[str, Any]:
        return {
            "name": self.node,
            "version": version("pytest-mlperf"),
            "extensions": EXTENSIONS,
        }

    def _describe_model(self) -> dict[str, Any]:
        model = self.model
        return {
            "name": model.name, "versions": ["1"], "platform": model.platform,
            "inputs": [describe_tensor(*one) for one in model.inputs.items()],
            "outputs": [describe_tensor(*one) for one in model.outputs.items()],
        }  # fmt: skip

    def _describe_config(self) -> dict[str, Any]:
        return {
            "name": self.model.name,
            "platform": self.model.platform,
            "max_batch_size": self.model.max_batch,
            "instance_group": [{"count": len(self.model.streams)}],
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
        }


def describe_tensor(name: str, form: TensorForm) -> dict[str, Any]:
    """Return one tensor of a model's metadata."""
    return {"name": name, "datatype": DATATYPES[form.dtype.name], "shape": form.shape}


class ModelServer(ThreadingHTTPServer):
    """Listens; each connection is a thread."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], model: ServedModel, node: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.model, self.counters = model, Counters()
        self.pages = ServedPages(model, node, self.counters)
        self.arrivals = Arrivals(model)
        self.answering = 0
        self.changed = threading.Condition()
        super().__init__(address, ModelRequests)

    @contextmanager
    def hold_open(self) -> Iterator[None]:
        """Keep the server from ending while an answer is made and sent."""
        with self.changed:
            self.answering += 1
        try:
            yield
        finally:
            with self.changed:
                self.answering -= 1
                self.changed.notify_all()

    def finish(self) -> None:
        """Take no new connections, answer what was asked, and end."""
        self.shutdown()
        self.arrivals.close()
        with self.changed:
            self.changed.wait_for(lambda: not self.answering, GRACE_S)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no matter of ours."""


class ModelRequests(BaseHTTPRequestHandler):
    """One client's requests, one after another."""

    server: ModelServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer a page."""
        self._answer_page()

    def do_POST(self) -> None:
        """Infer, or answer a page that is asked by POST."""
        begun_s = time.monotonic()
        with self.server.hold_open():
            if self.path != f"/v2/models/{self.server.model.name}/infer":
                self._answer_page()
                return
            try:
                arrival, wanted = self._infer()
                body, head = format_answer(self.server.model, arrival.outputs, wanted)
            except HttpRefusal as refusal:
                self.server.counters.add_failure()
                self._refuse(refusal)
                return
            self._send(200, body, {HEAD_LENGTH: str(head)})
            ns = int((time.monotonic() - begun_s) * 1e9)
            self.server.counters.add(arrival, ns)

    def _infer(self) -> tuple[Arrival, list[tuple[str, bool]]]:
        body = self._read_body()
        head = self.headers.get(HEAD_LENGTH)
        try:
            size = None if head is None else int(head)
            batch, wanted = read_request(body, size, self.server.model)
        except ValueError as error:
            words = error if isinstance(error, BadRequest) else f"{HEAD_LENGTH}: {head}"
            raise HttpRefusal(400, str(words)) from None
        try:
            arrival = self.server.arrivals.infer(batch)
        except ServerEnds:
            raise HttpRefusal(503, "the server is ending") from None
        if arrival.problem:
            raise HttpRefusal(500, arrival.problem)
        return arrival, wanted

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise HttpRefusal(411, "no Content-Length, but a request should have one")
        if int(length) > MOST_BYTES:
            self.close_connection = True
            raise HttpRefusal(
                413, f"{length} bytes, but at most {MOST_BYTES} are taken"
            )
        return self.rfile.read(int(length))

    def _answer_page(self) -> None:
        try:
            if self.command == "POST":
                self._read_body()
            found = self.server.pages.find(self.path.rstrip("/") or "/")
        except HttpRefusal as refusal:
            self._refuse(refusal)
            return
        self._send(200, json.dumps(found).encode())

    def _refuse(self, refusal: HttpRefusal) -> None:
        self._send(refusal.status, json.dumps({"error": str(refusal)}).encode())

    def _send(
        self, status: int, body: bytes, fields: dict[str, str] | None = None
    ) -> None:
        self.send_response_only(status)
        kind = "application/octet-stream" if fields else "application/json"
        for name, value in {"Content-Type": kind, **(fields or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """A line a request would cost more than the request."""


@contextmanager
def run_server(model: ServedModel, host: str, port: int, node: str) -> Iterator[str]:
    """Serve in threads while the block runs, and give the URL."""
    try:
        server = ModelServer((host, port), model, node)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise RunRefused(
            f"cannot listen on {host}:{port}: {why}; choose another --host or --port "
            "(0: a free one)"
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{server.server_address[1]}"
    finally:
        server.finish()
        thread.join()
