"""The KServe v2 server of ``kserve_double`` over gRPC: a real server of grpcio's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as messages

from tests.support.kserve_double import CONFIG
from tests.support.kserve_double import METADATA
from tests.support.kserve_double import PHASE_NS
from tests.support.kserve_double import WELL

SERVICE = "inference.GRPCInferenceService"
Fault = Callable[[Any, Any], Iterator[Any]]
"""(request, gRPC's context) -> answers, wrong ones."""


def echo(request: Any, _context: Any) -> Iterator[Any]:
    """Answer with the first number of every row."""
    (data,) = request.raw_input_contents
    rows = b"".join(data[at : at + 4] for at in range(0, len(data), 16))
    yield make_answer(request, rows)


def make_answer(request: Any, rows: bytes, **changes: Any) -> Any:
    """Return an answer with one output."""
    answer = messages.ModelInferResponse(model_name="echo", id=request.id)
    output = {"name": "number", "datatype": "FP32", "shape": [len(rows) // 4, 1]}
    answer.outputs.add(**{**output, **changes})
    answer.raw_output_contents.append(rows)
    return answer


def answer_typed(request: Any, context: Any) -> Iterator[Any]:
    """Answer with numbers instead of bytes, as servers without raw contents do."""
    import numpy as np

    (answer,) = echo(request, context)
    (rows,) = answer.raw_output_contents
    del answer.raw_output_contents[:]
    answer.outputs[0].contents.fp32_contents.extend(np.frombuffer(rows, np.float32))
    yield answer


def answer_slowly(request: Any, context: Any) -> Iterator[Any]:
    """Answer after 20 ms."""
    time.sleep(0.02)
    yield from echo(request, context)


def answer_twice(request: Any, context: Any) -> Iterator[Any]:
    """Answer two times."""
    for _ in range(2):
        yield from echo(request, context)


@dataclass(frozen=True)
class Refusal:
    """Refuses a call with one of gRPC's codes; in a stream, as Triton does, one request
    with words.
    """

    code: str
    words: str

    def __call__(self, request: Any, context: Any) -> Iterator[Any]:
        if request.id:  # only requests of a stream have one
            message = messages.ModelStreamInferResponse(error_message=self.words)
            message.infer_response.id = request.id
            yield message.SerializeToString()
            return
        context.abort(grpc.StatusCode[self.code], self.words)


def stall(_request: Any, context: Any) -> Iterator[Any]:
    """Say nothing until one end has given up."""
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait(60)
    yield b""


def send_bytes(data: bytes) -> Fault:
    """Answer with these bytes."""

    def fault(_request: Any, _context: Any) -> Iterator[Any]:
        yield data

    return fault


def answer_wrongly(rows: bytes, **changes: Any) -> Fault:
    """Answer with another output."""

    def fault(request: Any, _context: Any) -> Iterator[Any]:
        yield make_answer(request, rows, **changes)

    return fault


class GrpcDouble:
    """Counts as Triton does."""

    def __init__(self, fault: Fault | None, answer: Fault, well: int) -> None:
        self.fault, self.answer, self.well = fault, answer, well
        self.asked = threading.Event()
        self.outstanding = self.most_outstanding = 0
        self.requests = 0
        self.swaps = False
        self.url = ""
        self.keys: list[str] = []
        """Bearer tokens of the requests."""
        self._lock = threading.Lock()

    def infer(self, request: Any, context: Any) -> Iterator[Any]:
        """Answer a request."""
        found = dict(context.invocation_metadata())
        self.keys.append(found.get("authorization", ""))
        self.asked.set()
        with self._lock:
            is_well = self.fault is None or self.requests < self.well
            self.requests += is_well
            self.outstanding += 1
            self.most_outstanding = max(self.most_outstanding, self.outstanding)
        answer = self.answer if is_well else self.fault
        assert answer is not None
        for one in answer(request, context):
            with self._lock:
                self.outstanding -= 1
            yield one

    def stream(self, requests: Iterator[Any], context: Any) -> Iterator[bytes]:
        """Answer the requests of a stream; of pairs, the second one first."""
        for request in requests:
            asked = [next(requests), request] if self.swaps else [request]
            for one in asked:
                for answer in self.infer(one, context):
                    yield wrap(answer)

    def describe(self, method: str) -> Any:
        """Return the answer to a question about the server or the model."""
        answer = getattr(messages, f"{method}Response")()
        if method in ("ServerReady", "ModelReady"):
            answer.ready = True
        elif method == "RepositoryIndex":
            answer.models.add(name="echo", version="1", state="READY")
        elif method == "ModelMetadata":
            answer = messages.ModelMetadataResponse(**METADATA)
        elif method == "ModelConfig":
            answer.config.name = "echo"
            answer.config.max_batch_size = CONFIG["max_batch_size"]
        elif method == "ModelStatistics":
            made = answer.model_stats.add(name="echo", inference_count=self.requests)
            made.inference_stats.success.count = self.requests
            for phase, ns in PHASE_NS.items():
                getattr(made.inference_stats, phase).ns = ns * self.requests
        return answer


def to_bytes(answer: Any) -> bytes:
    """Return an answer's bytes; bytes stay what they are."""
    data: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
    return data


def wrap(answer: Any) -> bytes:
    """Return an answer as a stream has it; bytes stay what they are."""
    if isinstance(answer, bytes):
        return answer
    made = messages.ModelStreamInferResponse()
    made.infer_response.CopyFrom(answer)
    data: bytes = made.SerializeToString()
    return data


QUESTIONS = (
    "ServerReady", "ModelReady", "RepositoryIndex", "ModelMetadata", "ModelConfig",
    "ModelStatistics", "ServerMetadata",
)  # fmt: skip


@contextmanager
def serve_grpc(
    fault: Fault | None = None,
    certificate: Path | None = None,
    answer: Fault = echo,
    well: int = WELL,
) -> Iterator[GrpcDouble]:
    """Serve until the block ends; after ``well`` requests by the fault.

    ``certificate``: a file with its key.
    """
    double = GrpcDouble(fault, answer, well)
    read = messages.ModelInferRequest.FromString
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda _request, _context, name=name: double.describe(name),
            response_serializer=to_bytes,
        )
        for name in QUESTIONS
    }
    # A stream of answers, so that there can be two of them.
    handlers["ModelInfer"] = grpc.unary_stream_rpc_method_handler(
        double.infer, read, to_bytes
    )
    handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        double.stream, read
    )
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        made = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers([made])
        if certificate is None:
            port = server.add_insecure_port("127.0.0.1:0")
            double.url = f"grpc://127.0.0.1:{port}"
        else:
            both = certificate.read_bytes()
            credentials = grpc.ssl_server_credentials([(both, both)])
            port = server.add_secure_port("localhost:0", credentials)
            double.url = f"grpcs://localhost:{port}"
        server.start()
        try:
            yield double
        finally:
            server.stop(0).wait()
