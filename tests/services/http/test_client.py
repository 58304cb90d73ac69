"""The client of HTTP services against a real server, well-behaved and not."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import MOST_EVENTS
from pytest_mlperf.services.http.client import TICK_S
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai.protocol import Dialect
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint
from tests.support.recording_listener import RecordingListener

WAIT_S = 60.0


@contextmanager
def open_client(
    urls: Sequence[str],
    listener: RecordingListener,
    *,
    limit: int = 8,
    ca: str | None = None,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[HttpClient]:
    """Open a client of these endpoints; every sample asks for at most 8 tokens."""
    dialect = Dialect("m")
    endpoints = []
    for url in urls:
        address = Address.parse(url, ca)
        head = http1.format_head("POST", dialect.path, address.authority, headers or {})
        endpoints.append(Endpoint(address, head, limit))
    prompts = [Prompt(f"q{sample}") for sample in range(200)]
    bodies = [http1.format_body(dialect.request(prompt)) for prompt in prompts]
    requests = dict(enumerate(bodies))
    client = HttpClient(
        endpoints, requests, lambda _: dialect.open_reader(8), listener, **options
    )
    try:
        yield client
    finally:
        client.close()


def send_requests(
    urls: Sequence[str], count: int, **options: Any
) -> tuple[RecordingListener, HttpClient]:
    """Send ``count`` requests and wait until all are answered or one has failed."""
    listener = RecordingListener(count)
    with open_client(urls, listener, **options) as client:
        for number in range(count):
            client.submit(1000 + number, number)
        listener.wait()
    return listener, client


def test_every_request_gets_its_own_answer(serve: ServeEndpoint) -> None:
    """Each ticket returns once, after its first token."""
    server = serve()
    listener, client = send_requests([server.url], 100)

    assert set(range(1000, 1100)) == set(listener.answers)
    assert set(listener.firsts) == set(listener.answers)
    assert {(a.text, a.tokens) for a in listener.answers.values()} == {("abc", 3)}
    assert (
        client.stats()[0].sent, client.stats()[0].answered, client.stats()[0].tokens,
    ) == (100, 100, 300)  # fmt: skip


def test_no_more_requests_are_outstanding_than_allowed(serve: ServeEndpoint) -> None:
    """Further requests wait in the client's queue."""
    server = serve()
    listener, client = send_requests([server.url], 60, limit=3)

    assert listener.error is None
    assert len(listener.answers) == 60
    assert server.most_connections <= 3
    assert client.stats()[0].most_outstanding <= 3


def test_connections_are_kept(serve: ServeEndpoint) -> None:
    """Opening one for each request would add the client's own latency."""
    server = serve()
    listener, _ = send_requests([server.url], 50, limit=1)

    assert len(listener.answers) == 50
    assert server.most_connections == 1


@pytest.mark.parametrize("balance", ["round", "least"])
def test_several_endpoints_share_the_requests(
    serve: ServeEndpoint, balance: str
) -> None:
    """Round robin exactly; least outstanding about evenly."""
    one = serve()
    two = serve()
    listener, client = send_requests([one.url, two.url], 80, balance=balance)

    shares = [stats.answered for stats in client.stats()]
    assert 80 == len(listener.answers) == sum(shares)
    if balance == "round":
        assert shares == [40, 40]
    else:
        assert min(shares) > 0


send_parts = endpoint.send_parts
START, END = endpoint.START, endpoint.END
TOKEN = endpoint.format_token("a")
NO_CHOICE = endpoint.format_event({"choices": []})
TOO_MANY = endpoint.format_event({"choices": [], "usage": {"completion_tokens": 99}})
ERROR = endpoint.format_event({"error": "no such model"})
HALF_CLOSED = "closed the connection in the middle"


@pytest.mark.parametrize(
    ("behavior", "found"),
    [
        (endpoint.answer_status(429, "slow down"), "HTTP 429: slow down"),
        (endpoint.answer_status(503, ""), "or ask for fewer at once"),
        (endpoint.answer_status(500, "out of memory"), "HTTP 500: out of memory"),
        (endpoint.answer_status(404, ""), "HTTP 404"),
        (send_parts(b""), "closed the connection before the answer"),
        (send_parts(START, TOKEN), HALF_CLOSED),
        (send_parts(START, TOKEN, endpoint.USAGE, END), None),
        (send_parts(START, TOKEN, END), "without usage.completion_tokens"),
        (send_parts(START, b"5\r\nda"), HALF_CLOSED),
        (
            send_parts(START, endpoint.format_chunk(b"nonsense\n\n")),
            "its body begins with 'nonsense",
        ),
        (send_parts(START, NO_CHOICE), HALF_CLOSED),
        (send_parts(START, TOKEN, b"0\r\n\r\n", keep=True), "ended early"),
        (send_parts(START, TOKEN, TOO_MANY, END, keep=True), "max_tokens allows 8"),
        (send_parts(START, ERROR), "no such model"),
        (send_parts(b"SSH-2.0-OpenSSH\r\n\r\n"), "instead of an HTTP/1.1 response"),
        (endpoint.answer_well_until(5, send_parts(START, TOKEN)), HALF_CLOSED),
    ],
)
def test_a_wrong_answer_is_one_failure_with_endpoint_request_and_time(
    serve: ServeEndpoint, behavior: endpoint.Behavior, found: str | None
) -> None:
    """No request is sent again."""
    server = serve(behavior)
    listener, _ = send_requests([server.url], 20 if found else 1, limit=1)

    if found is None:
        assert listener.error is None
        return
    assert isinstance(listener.error, RequestFailed)
    assert found in str(listener.error)
    assert server.url in str(listener.error)
    assert "request for sample" in str(listener.error)
    assert " s: " in str(listener.error)


def test_a_stall_in_the_middle_of_a_stream_is_a_failure(serve: ServeEndpoint) -> None:
    """A server that hangs must not hang the run."""
    server = serve(endpoint.stall)
    listener, _ = send_requests([server.url], 1, stall_s=0.3)

    assert isinstance(listener.error, RequestFailed)
    assert "nothing came for 0.3 s" in str(listener.error)


def test_a_stream_that_never_ends_is_a_failure(serve: ServeEndpoint) -> None:
    """Each piece restarts the stall's clock, but not the request's."""

    def drip(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001 - one shape
        send(endpoint.START)
        while True:
            send(endpoint.format_chunk(b": still here\n\n"))
            threading.Event().wait(0.05)

    server = serve(drip)
    listener, _ = send_requests([server.url], 1, timeout_s=0.5, stall_s=5)

    assert "no whole answer in 0.5 s" in str(listener.error)


@dataclass
class PausingListener(RecordingListener):
    """Makes an hour pass with the first answers, while all others arrive."""

    wanted: int
    arrived: threading.Barrier
    client: HttpClient | None = None

    def __post_init__(self) -> None:
        super().__init__(self.wanted)

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        if self.client and not self.answers:
            self.arrived.wait(WAIT_S)
            time.sleep(2 * TICK_S)  # time-outs are looked at next
            for connection in self.client._pool.busy.values():
                connection.sent_s -= 3600
                connection.last_s -= 3600
        super().done(answers)


def test_answers_that_came_while_the_client_stood_still_are_in_time(
    serve: ServeEndpoint,
) -> None:
    """More than are read at once: they lie there, and are read before they are late."""
    count = 3 * MOST_EVENTS
    asked, arrived = threading.Barrier(count), threading.Barrier(count + 1)

    def answer(send: endpoint.Sender, number: int) -> bool:
        asked.wait(WAIT_S)
        is_kept = endpoint.answer_well(send, number)
        arrived.wait(WAIT_S)
        return is_kept

    server, listener = serve(answer), PausingListener(count, arrived)
    with open_client([server.url], listener, limit=count) as client:
        listener.client = client
        for number in range(count):
            client.submit(1000 + number, number)
        listener.wait()

    assert listener.error is None
    assert len(listener.answers) == count


def test_a_port_without_a_server_is_a_failure() -> None:
    """The error names the endpoint."""
    port = find_free_port()
    listener, _ = send_requests([f"127.0.0.1:{port}"], 1)

    assert isinstance(listener.error, RequestFailed)
    assert f"127.0.0.1:{port}" in str(listener.error)
    assert "cannot connect (Connection refused)" in str(listener.error)


def test_one_dead_endpoint_of_two_fails_the_run(serve: ServeEndpoint) -> None:
    """The other endpoint must not do all the work unnoticed."""
    port = find_free_port()
    server = serve()
    listener, _ = send_requests([server.url, f"127.0.0.1:{port}"], 20)

    assert str(port) in str(listener.error)


def test_tls_and_bearer_tokens_reach_the_server(
    serve: ServeEndpoint, certificate: Path
) -> None:
    """Over TLS with a private CA file; the token is in none of our texts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = serve(context=context)
    headers = {"Authorization": "Bearer secret"}
    listener, client = send_requests(
        [server.url], 20, ca=str(certificate), headers=headers
    )

    assert listener.error is None
    assert len(listener.answers) == 20
    assert all(b"Authorization: Bearer secret" in r for r in server.requests)
    assert "secret" not in repr(client.stats())


def test_an_unknown_certificate_is_a_failure(
    serve: ServeEndpoint, certificate: Path
) -> None:
    """A server that cannot be verified gets no request."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = serve(context=context)
    listener, _ = send_requests([server.url], 1)

    assert "cannot connect" in str(listener.error)
    assert "certificate" in str(listener.error).lower()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ftp://host", "no http:// or https:// URL"),
        ("http://", "no http:// or https:// URL"),
        ("http://host:99999", "write http://host:port"),
        ("http://me:pass@host", "a password in a URL ends in logs"),
        ("http://host/?a=1", "no ?"),
    ],
)
def test_a_wrong_url_is_refused(url: str, found: str) -> None:
    """The error does not repeat a password."""
    with pytest.raises(ValueError, match=re.escape(found)) as caught:
        Address.parse(url)

    assert "me:pass" not in str(caught.value)


def test_a_url_may_be_written_in_the_usual_ways() -> None:
    """With or without scheme, and with the /v1 that other clients want."""
    assert (Address.parse("h:1").url, Address.parse("h:1").base) == ("http://h:1", "")
    assert Address.parse("https://h/api/v1/").base == "/api"
    assert Address.parse("https://h/api/v1/").authority == "h"
