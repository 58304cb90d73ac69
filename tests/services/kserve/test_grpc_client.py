"""The gRPC client against real servers that answer late, twice, wrongly or not at all.

Its failures are those of ``test_grpc_runs``, without a runner's child around them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.request_batch import send_when_due
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.services.kserve.provider import TritonService
from tests.support import doubles
from tests.support import grpc_double as double
from tests.support.grpc_double import serve_grpc
from tests.support.recording_listener import RecordingListener

WAYS = {"calls": {"streaming": "0"}, "stream": {"streaming": "1"}}


@contextmanager
def send_requests(
    url: str, way: str, count: int, timeout_s: float = 60
) -> Iterator[RecordingListener]:
    """Send samples 0 … with tickets from 100 on; yield while the client is open."""
    service = TritonService()
    target = ServiceTarget((url,), "echo", options=WAYS[way], timeout_s=timeout_s)
    made = service.requests(target, doubles.NUMBERS.open_workload("embedded", None))
    made.load(range(count))
    listener = RecordingListener(count)
    client = service.open(target, made, listener)
    try:
        for sample in range(count):
            client.submit(100 + sample, sample)
        yield listener
    finally:
        client.close()


def test_answers_of_a_stream_may_come_in_any_order() -> None:
    """Each goes to the request whose id it has."""
    with serve_grpc() as server:
        server.swaps = True
        with send_requests(server.url, "stream", 8) as listener:
            listener.wait()
    dataset = doubles.NUMBERS.open_workload("embedded", None).dataset
    dataset.load(range(8))

    assert list(listener.answers) == [101, 100, 103, 102, 105, 104, 107, 106]
    for ticket, answer in listener.answers.items():
        (outputs,) = answer.outputs or ()
        assert outputs[0, 0] == dataset.gather([ticket - 100])["number"][0, 0]


LATE = "no whole answer in 0.3 s"
UNLOADED = double.Refusal("UNAVAILABLE", "unknown model: 'echo' is unloaded")
LIMITED = double.Refusal("RESOURCE_EXHAUSTED", "rate limit exceeded")
FAULTS: dict[str, tuple[double.Fault, str]] = {
    "refused": (LIMITED, "rate limit exceeded"),
    "unloaded": (UNLOADED, "is unloaded"),
    "garbage": (double.send_bytes(b"\xff" * 40), "40 bytes, but should be a KServe v2"),
    "two rows": (
        double.answer_wrongly(b"\0" * 8),
        r"output number of shape \[2, 1\], but should have 1 rows",
    ),
    "wrong type": (
        double.answer_wrongly(b"\0" * 4, datatype="FP64"),
        r"output number of 4 bytes, but FP64 \[1, 1\] has 8",
    ),
    "wrong name": (
        double.answer_wrongly(b"\0" * 4, name="digit"),
        r"outputs \['digit'\], but should also have number",
    ),
    "twice": (double.answer_twice, ""),
    "silent": (double.stall, LATE),
}
TWICE = {
    "calls": LATE,  # gRPC waits for the end of the call
    "stream": "an answer to request '[0-9]+', but no such request is outstanding",
}


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_fault_is_one_failed_request(name: str, way: str) -> None:
    """It names request, URL and time."""
    fault, problem = FAULTS[name]
    problem = problem or TWICE[way]
    # Short only where it has to pass: a busy machine may answer late.
    limit_s = 0.3 if problem == LATE else 60
    with (
        serve_grpc(fault, well=0) as server,
        send_requests(server.url, way, 3, timeout_s=limit_s) as listener,
    ):
        listener.wait()

    assert isinstance(listener.error, RequestFailed)
    assert re.match(
        rf"{server.url}: request for sample \d+ failed after [\d.]+ s: "
        f".*{problem}",
        str(listener.error),
    ), str(listener.error)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_ends_fails_what_is_outstanding(way: str) -> None:
    """At once, not after the time-out."""
    with ExitStack() as stack:
        server = stack.enter_context(serve_grpc(double.stall, well=0))
        with send_requests(server.url, way, 3) as listener:
            server.asked.wait(60)
            stack.close()
            listener.wait()

    assert isinstance(listener.error, RequestFailed)
    assert listener.error.url == server.url
    assert listener.error.sample in (0, 1, 2)
    assert listener.error.after_s < 60  # its time-out


@pytest.mark.usefixtures("bounded")
def test_a_slow_server_gets_no_more_than_the_concurrency() -> None:
    """The others wait here, and all are answered."""
    both = threading.Barrier(2)

    def answer_two(request: Any, context: Any) -> Iterator[Any]:
        both.wait(60)
        yield from double.echo(request, context)

    with serve_grpc(answer=answer_two) as server:
        service = TritonService()
        target = ServiceTarget((server.url,), "echo", concurrency=2)
        made = service.requests(target, doubles.NUMBERS.open_workload("embedded", None))
        made.load(range(8))
        listener = RecordingListener(8)
        client = service.open(target, made, listener)
        for sample in range(8):
            client.submit(sample, sample)
        listener.wait()
        client.close()

    assert listener.error is None
    assert server.most_outstanding == 2
    assert client.stats()[0].most_outstanding == 2


@pytest.mark.usefixtures("bounded")
def test_requests_at_a_rate_come_whatever_is_outstanding() -> None:
    """They are sent when they are due, and one that waits here counts from then."""
    service = TritonService()
    due = [0.004 * n for n in range(20)]
    with serve_grpc(answer=double.answer_slowly) as server:
        wide = ServiceTarget((server.url,), "echo", concurrency=64)
        made = service.requests(wide, doubles.NUMBERS.open_workload("embedded", None))
        made.load(range(4))
        found = send_when_due(partial(service.open, wide, made), range(4), due)
        one = ServiceTarget((server.url,), "echo", concurrency=1)
        late = send_when_due(partial(service.open, one, made), range(4), due)

    assert server.most_outstanding > 2
    assert len(found.answers) == len(late.answers) == len(due)
    assert min(found.latencies) >= 0.02
    # Nineteen answers of 20 ms each come first, while it was due after 76 ms.
    assert late.latencies[-1] >= 20 * 0.02 - due[-1]
