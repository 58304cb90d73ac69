"""The client of HTTP services against a real server, well-behaved and not."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import IDLE_S
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai.protocol import Dialect
from tests.support.endpoint_double import END
from tests.support.endpoint_double import START
from tests.support.endpoint_double import USAGE
from tests.support.endpoint_double import Behaviour
from tests.support.endpoint_double import after
from tests.support.endpoint_double import chunk
from tests.support.endpoint_double import event
from tests.support.endpoint_double import good
from tests.support.endpoint_double import says
from tests.support.endpoint_double import serving
from tests.support.endpoint_double import stall
from tests.support.endpoint_double import status
from tests.support.endpoint_double import token

WAIT_S = 20.0


class Ears:
    """Keeps what the client tells, and wakes who waits for it."""

    def __init__(self, wanted: int) -> None:
        self.firsts: list[int] = []
        self.answers: dict[int, Answer] = {}
        self.error: BaseException | None = None
        self._wanted = wanted
        self._over = threading.Event()

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        for ticket, _ in firsts:
            assert ticket not in self.answers, "a first token comes first"
            self.firsts.append(ticket)

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        self.answers |= dict(answers)
        if len(self.answers) == self._wanted:
            self._over.set()

    def failed(self, error: BaseException) -> None:
        self.error = error
        self._over.set()

    def wait(self) -> None:
        assert self._over.wait(WAIT_S), "neither answered nor failed"


@contextmanager
def client(
    urls: Sequence[str], ears: Ears, *, limit: int = 8, ca: str | None = None,
    headers: dict[str, str] | None = None, **options: Any,
) -> Iterator[HttpClient]:  # fmt: skip
    """Open a client of these endpoints; every sample asks for at most 8 tokens."""
    dialect = Dialect("m")
    addresses = [Address.parse(url, ca) for url in urls]
    endpoints = [
        Endpoint(
            a,
            http1.format_head("POST", dialect.path, a.authority, headers or {}),
            limit,
        )
        for a in addresses
    ]
    requests = {
        i: http1.format_body(dialect.request(Prompt(f"q{i}"))) for i in range(200)
    }
    pool = HttpClient(
        endpoints, requests, lambda _: dialect.open_reader(8), ears, **options
    )
    try:
        yield pool
    finally:
        pool.close()


def ask(urls: Sequence[str], count: int, **options: Any) -> tuple[Ears, HttpClient]:
    """Send that many requests and wait for the end."""
    ears = Ears(count)
    with client(urls, ears, **options) as pool:
        for number in range(count):
            pool.submit(1000 + number, number)
        ears.wait()
    return ears, pool


def test_every_request_gets_its_own_answer() -> None:
    """Tickets come back once each, after their first token."""
    with serving() as server:
        ears, pool = ask([server.url], 100)

    assert set(range(1000, 1100)) == set(ears.answers)
    assert set(ears.firsts) == set(ears.answers)
    assert {(a.text, a.tokens) for a in ears.answers.values()} == {("abc", 3)}
    assert (
        pool.stats()[0].sent, pool.stats()[0].answered, pool.stats()[0].tokens,
    ) == (100, 100, 300)  # fmt: skip


def test_no_more_requests_are_outstanding_than_allowed() -> None:
    """What is too much waits in line: back-pressure, not a refusal."""
    with serving() as server:
        ears, pool = ask([server.url], 60, limit=3)

    assert ears.error is None
    assert len(ears.answers) == 60
    assert server.most_connections <= 3
    assert pool.stats()[0].most_outstanding <= 3


def test_connections_are_kept() -> None:
    """Opening one a request would be the client's own latency."""
    with serving() as server:
        ears, _ = ask([server.url], 50, limit=1)

    assert len(ears.answers) == 50
    assert server.most_connections == 1


@pytest.mark.parametrize("balance", ["round", "least"])
def test_several_endpoints_share_the_requests(balance: str) -> None:
    """Round robin to the letter; least outstanding about evenly."""
    with serving() as one, serving() as two:
        ears, pool = ask([one.url, two.url], 80, balance=balance)

    shares = [stats.answered for stats in pool.stats()]
    assert 80 == len(ears.answers) == sum(shares)
    if balance == "round":
        assert shares == [40, 40]
    else:
        assert min(shares) > 0


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        (status(429, "slow down"), "HTTP 429: slow down"),
        (status(500, "cuda out of memory"), "HTTP 500: cuda out of memory"),
        (status(404, ""), "HTTP 404"),
        (says(b""), "closed the connection before the answer"),
        (says(START, token("a")), "closed the connection in the middle"),
        (says(START, token("a"), USAGE, END), None),
        (says(START, token("a"), END), "without usage.completion_tokens"),
        (says(START, b"5\r\nda"), "closed the connection in the middle"),
        (says(START, chunk(b"nonsense\n\n")), "malformed event stream"),
        (says(START, event({"choices": []})), "empty choices"),
        (says(START, token("a"), b"0\r\n\r\n", keep=True), "ended early"),
        (
            says(START, token("a"), event({"choices": [], "usage": {
                "completion_tokens": 99}}), END, keep=True),
            "max_tokens allows 8",
        ),
        (says(START, event({"error": "no such model"})), "no such model"),
        (says(b"SSH-2.0-OpenSSH\r\n\r\n"), "instead of an HTTP/1.1 response"),
        (after(5, says(START, token("a"))), "closed the connection in the middle"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_one_failure_with_endpoint_request_and_time(
    behaviour: Behaviour, found: str | None
) -> None:
    """Nothing is tried again into a better number."""
    with serving(behaviour) as server:
        ears, _ = ask([server.url], 20 if found else 1, limit=1)

    if found is None:
        assert ears.error is None
        return
    assert isinstance(ears.error, RequestFailed)
    assert found in str(ears.error)
    assert server.url in str(ears.error)
    assert "request for sample" in str(ears.error)
    assert " s: " in str(ears.error)


def test_a_stall_in_the_middle_of_a_stream_is_a_failure() -> None:
    """A server that hangs must not hang the run."""
    with serving(stall) as server:
        ears, _ = ask([server.url], 1, stall_s=0.3)

    assert isinstance(ears.error, RequestFailed)
    assert "nothing came for 0.3 s" in str(ears.error)


def test_a_stream_that_never_ends_is_a_failure() -> None:
    """Each token restarts the stall's clock, but not the request's."""

    def drip(send: Any, number: int) -> bool:  # noqa: ARG001 - one shape
        send(START)
        while True:
            send(chunk(b": still here\n\n"))
            threading.Event().wait(0.05)

    with serving(drip) as server:
        ears, _ = ask([server.url], 1, timeout_s=0.5, stall_s=5)

    assert "no whole answer in 0.5 s" in str(ears.error)


def test_nobody_at_the_port_is_a_failure() -> None:
    """A dead endpoint is named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ears, _ = ask([f"127.0.0.1:{port}"], 1)

    assert isinstance(ears.error, RequestFailed)
    assert f"127.0.0.1:{port}" in str(ears.error)
    assert "cannot connect (Connection refused)" in str(ears.error)


def test_one_dead_endpoint_of_two_fails_the_run() -> None:
    """The other must not quietly do all the work."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with serving() as server:
        ears, _ = ask([server.url, f"127.0.0.1:{port}"], 20)

    assert str(port) in str(ears.error)


def test_a_kept_connection_that_was_closed_is_opened_again_and_counted() -> None:
    """HTTP allows a server to close between requests; no answer had begun."""

    def once(send: Any, number: int) -> bool:
        good(send, number)
        return False  # closes without having said so

    with serving(once) as server:
        ears = Ears(2)
        with client([server.url], ears, limit=1) as pool:
            pool.submit(1, 0)
            pool.submit(2, 1)
            ears.wait()
            stats = pool.stats()[0]

    assert ears.error is None
    assert set(ears.answers) == {1, 2}
    assert 2 == stats.answered == stats.sent


def test_a_request_that_the_server_held_and_dropped_is_a_failure() -> None:
    """Its connection was not idle: sending it again would hide that it was lost."""

    def drops(send: Any, number: int) -> bool:
        if number == 1:
            time.sleep(IDLE_S + 0.3)
            return False
        return good(send, number)

    with serving(drops) as server:
        ears, _ = ask([server.url], 2, limit=1)

    assert "closed the connection before the answer" in str(ears.error)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for localhost, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", path],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate; install openssl 1.1.1 or newer")
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def test_tls_and_bearer_tokens_reach_the_server(certificate: Path) -> None:
    """Over TLS with a CA file of one's own; the token is in no text of ours."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with serving(context=context) as server:
        headers = {"Authorization": "Bearer secret"}
        ears, pool = ask([server.url], 20, ca=str(certificate), headers=headers)

    assert ears.error is None
    assert len(ears.answers) == 20
    assert all(b"Authorization: Bearer secret" in r for r in server.requests)
    assert "secret" not in repr(pool.stats())


def test_an_unknown_certificate_is_a_failure(certificate: Path) -> None:
    """No answer is taken from whoever is at the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with serving(context=context) as server:
        ears, _ = ask([server.url], 1)

    assert "cannot connect" in str(ears.error)
    assert "certificate" in str(ears.error).lower()


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
    """Before anything is run."""
    with pytest.raises(ValueError, match=re.escape(found)) as caught:
        Address.parse(url)

    assert "me:pass" not in str(caught.value)


def test_a_url_may_be_written_in_the_usual_ways() -> None:
    """With or without scheme, and with the /v1 that other clients want."""
    assert (Address.parse("h:1").url, Address.parse("h:1").base) == ("http://h:1", "")
    assert Address.parse("https://h/api/v1/").base == "/api"
    assert Address.parse("https://h/api/v1/").authority == "h"
