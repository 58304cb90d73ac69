"""What the client tells of each endpoint: tokens an event, notes, pauses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.api.service import EndpointStats
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai.protocol import Dialect
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint

ANSWERS = 20


class OneByOne:
    """A ``Listener`` that sends the next request when one is answered."""

    def __init__(self) -> None:
        self.client: HttpClient | None = None
        self.over = threading.Event()
        self.error: BaseException | None = None
        self._count = 0

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Nothing is done with it."""

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        self._count += len(answers)
        if self._count == ANSWERS:
            self.over.set()
        elif self.client is not None:
            self.client.submit(self._count, 0)

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.over.set()


def collect_stats(url: str) -> EndpointStats:
    """Return the figures of some answers, one after another on one connection."""
    dialect, listener = Dialect("m"), OneByOne()
    address = Address.parse(url)
    head = http1.format_head("POST", dialect.path, address.authority, {})
    requests = {0: http1.format_body(dialect.request(Prompt("q")))}
    client = HttpClient(
        [Endpoint(address, head, 1)],
        requests,
        lambda _: dialect.open_reader(8),
        listener,
    )
    listener.client = client
    client.submit(0, 0)
    assert listener.over.wait(120)
    client.close()
    assert listener.error is None
    return client.stats()[0]


def write_with_nagle(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Write small pieces, each of which waits until the last one is acknowledged."""
    send.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    send(endpoint.START)
    for text in "abc":
        send(endpoint.format_token(text))
    send(endpoint.USAGE + endpoint.END)
    return True


def test_no_piece_of_an_answer_waits_for_its_acknowledgement(
    serve: ServeEndpoint,
) -> None:
    """Every answer on a kept connection would pause for 40 ms."""
    stats = collect_stats(serve(write_with_nagle).url)

    assert stats.answered == ANSWERS
    assert stats.pauses < ANSWERS / 2
    assert "pauses of 40 ms" not in stats.facts()


def test_several_tokens_in_one_event_and_what_was_passed_over_are_facts(
    serve: ServeEndpoint,
) -> None:
    """As a server that streams at intervals, behind a gateway with notes, has them."""
    count = {"usage": {"completion_tokens": 2}}
    events = [
        {"choices": [], "note": 1},
        {"choices": [{"text": "ab"}], **count},
        {"choices": [{"text": "c"}], "usage": {"completion_tokens": 3}},
    ]
    parts = [endpoint.format_event(one) for one in events]
    answer = b"".join([endpoint.START, *parts, endpoint.USAGE, endpoint.END])
    facts = collect_stats(serve(endpoint.send_parts(answer, keep=True)).url).facts()

    assert facts["tokens an event"] == "p50 2, p99 2, most 2"
    assert facts["passed over"] == f"{ANSWERS} events or fields"


@pytest.mark.parametrize(("events", "shown"), [(50, "mean 2.00"), (100, None)])
def test_without_counts_event_by_event_the_mean_is_told(
    events: int, shown: str | None
) -> None:
    """Where it is one token an event, nothing is."""
    stats = EndpointStats("u", answered=10, tokens=100, events=events)

    assert stats.facts().get("tokens an event") == shown


@pytest.mark.parametrize(("pauses", "is_shown"), [(30, True), (19, False)])
def test_pauses_that_recur_are_a_fact(pauses: int, is_shown: bool) -> None:
    """A few of them are tokens that took so long."""
    stats = EndpointStats("u", answered=10, later_parts=100, pauses=pauses)

    assert ("pauses of 40 ms" in stats.facts()) is is_shown
