"""A small real KServe v2 server on loopback: the model ``echo`` gives back its input.

It counts as Triton does, and can be wrong in every way that a server can.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_mlperf.api import registry
from pytest_mlperf.runner.messages import ServiceSpec
from pytest_mlperf.runner.messages import Task
from tests.support import doubles
from tests.support.endpoint_double import EndpointDouble
from tests.support.endpoint_double import Sender
from tests.support.endpoint_double import format_page
from tests.support.endpoint_double import serve_endpoint

NUMBER = {"name": "number", "datatype": "FP32", "shape": [-1, 4]}
ECHOED = {"name": "number", "datatype": "FP32", "shape": [-1, 1]}
METADATA: dict[str, Any] = {
    "name": "echo", "versions": ["1"], "platform": "double",
    "inputs": [NUMBER], "outputs": [ECHOED],
}  # fmt: skip
CONFIG = {"name": "echo", "max_batch_size": 8, "dynamic_batching": {}}
PHASE_NS = {"queue": 2_000, "compute_input": 1_000, "compute_infer": 5_000}
WELL = 3
"""Requests that a faulty server answers well: the test request, and some of a run."""


@dataclass
class KServeModel:
    """What the server says of its model, and how often it was asked."""

    metadata: Mapping[str, Any] = field(default_factory=lambda: METADATA)
    config: Mapping[str, Any] | None = field(default_factory=lambda: CONFIG)
    state: str = "READY"
    has_statistics: bool = True
    extensions: Sequence[str] | None = None
    """Of the protocol; None: the server lists none."""
    requests: int = 0

    def pages(self) -> dict[str, bytes]:
        """Return path -> reply to a GET."""
        is_ready = self.state == "READY"
        pages = {
            "/v2/health/ready": format_page(200 if is_ready else 400, ""),
            "/v2/models/echo/ready": format_page(200 if is_ready else 400, ""),
            "/v2/models/echo": format_page(200, json.dumps(self.metadata)),
        }
        if self.extensions is not None:
            document = {"name": "double", "extensions": self.extensions}
            pages["/v2"] = format_page(200, json.dumps(document))
        if self.config is not None:
            pages["/v2/models/echo/config"] = format_page(200, json.dumps(self.config))
        if self.has_statistics:
            stats = json.dumps({"model_stats": [self._count()]})
            pages["/v2/models/echo/stats"] = format_page(200, stats)
        return pages

    def _count(self) -> dict[str, Any]:
        count = self.requests
        times = {k: {"count": count, "ns": ns * count} for k, ns in PHASE_NS.items()}
        success = {"count": count, "ns": 10_000 * count}
        nothing = {"count": 0, "ns": 0}
        stats = {"success": success, "fail": nothing, "compute_output": nothing}
        return {
            "name": "echo", "inference_count": count, "execution_count": count,
            "inference_stats": {**stats, **times},
        }  # fmt: skip

    def index(self) -> bytes:
        """Return the reply to a request for the repository's index."""
        one = {"name": "echo", "version": "1", "state": self.state, "reason": ""}
        return format_page(200, json.dumps([one]))


class _Pages(Mapping[str, bytes]):
    """The pages as they are when they are asked for."""

    def __init__(self, model: KServeModel) -> None:
        self._model = model

    def __getitem__(self, path: str) -> bytes:
        return self._model.pages()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.pages())

    def __len__(self) -> int:
        return len(self._model.pages())


def read_rows(request: bytes) -> bytes:
    """Return the first number of every row of a request's input."""
    head, _, body = request.partition(b"\r\n\r\n")
    size = int(head.partition(b"Inference-Header-Content-Length: ")[2].split()[0])
    assert json.loads(body[:size])["inputs"][0]["datatype"] == "FP32"
    data = body[size:]
    return b"".join(data[at : at + 4] for at in range(0, len(data), 16))


def echo_json(request: bytes) -> bytes:
    """Return a whole answer to a request whose numbers are text."""
    (one,) = json.loads(request.partition(b"\r\n\r\n")[2])["inputs"]
    rows = one["data"][::4]
    output = {**ECHOED, "shape": [len(rows), 1], "data": rows}
    return format_page(200, json.dumps({"model_name": "echo", "outputs": [output]}))


def format_answer(
    data: bytes, shape: Sequence[int] | None = None, **changes: Any
) -> bytes:
    """Return a whole answer with one output."""
    output = {
        "name": "number",
        "datatype": "FP32",
        "shape": [len(data) // 4, 1] if shape is None else list(shape),
        "parameters": {"binary_data_size": len(data)},
        **changes,
    }
    head = json.dumps({"model_name": "echo", "outputs": [output]}).encode()
    body = head + data
    fields = f"Content-Length: {len(body)}\r\n"
    fields += f"Inference-Header-Content-Length: {len(head)}\r\n"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode() + body


Fault = Callable[[Sender], bool]
"""Answers a request wrongly; returning False closes the connection."""


def send_bytes(data: bytes) -> Fault:
    """Answer with these bytes and close."""

    def fault(send: Sender) -> bool:
        send(data)
        return False

    return fault


def answer_twice(send: Sender) -> bool:
    """Answer two times in one piece."""
    answer = format_answer(read_rows(send.request))
    send(answer + answer)
    return True


def stall(send: Sender) -> bool:
    """Say nothing until the client closes."""
    send.sock.recv(1)
    return False


@contextmanager
def serve_echo(
    model: KServeModel | None = None,
    fault: Fault | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[EndpointDouble]:
    """Serve until the block ends; after ``WELL`` requests by the fault."""
    made = model or KServeModel()

    def answer(send: Sender, number: int) -> bool:  # noqa: ARG001 - one shape
        if b"/v2/repository/index" in send.request.partition(b"\r\n")[0]:
            send(made.index())
            return True
        if fault is not None and made.requests >= WELL:
            return fault(send)
        made.requests += 1
        if made.extensions == []:
            send(echo_json(send.request))
        else:
            send(format_answer(read_rows(send.request)))
        return True

    with serve_endpoint(answer, context, _Pages(made)) as double:
        yield double


def make_task(folder: Path, urls: Sequence[str], **changes: Any) -> Task:
    """Return a task of a second against these servers; the workload counts."""
    given = {"timeout_s": 60.0, "stall_s": 60.0, **changes.pop("asked", {})}
    spec = ServiceSpec(
        urls=tuple(urls), **{"concurrency": 8, "warm_up": 0, "model": "echo", **given}
    )
    task = doubles.make_task(folder, "ECHO", seconds=0.5, service=spec, **changes)
    provider = registry.reference("service", "triton")
    return replace(task, provider=provider, cell=replace(task.cell, engine="triton"))
