"""Drives the client of HTTP services, or a bare socket loop, and prints what it took.

``python -m perf.client_drive WHO PORT …`` with WHO ``ours`` or ``bare``; without
``--rate`` a closed loop that asks for what there is, else requests at that rate on
a clock of their own. Prints JSON: answers a second, latencies in ms, from handing a
request over to hearing that it is answered, and the process's CPU time an answer in us,
which other work on the machine changes less than rates.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time
from collections.abc import Sequence

from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.samples import Prompt
from pytest_mlperf.services.http import http1
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.http.client import HttpClient
from pytest_mlperf.services.http.connection import Endpoint
from pytest_mlperf.services.openai.protocol import Dialect
from pytest_mlperf.services.openai.stream_reader import StreamReader

TICK_S = 0.0005
"""How often requests that are due are submitted."""
WARM_UP_S = 0.5
PROMPT = "what is the capital of France " * 8


class Uncounted(StreamReader):
    """Reads the streams of mlcommons/endpoints' server, which tells no usage."""

    def finish(self, *, is_delimited: bool = True) -> Answer:
        self._parse_rest()
        self._usage = self._text_events
        return super().finish(is_delimited=is_delimited)


class Ours:
    """Our client, and the listener that keeps its times."""

    def __init__(
        self, ports: Sequence[int], width: int, *, stream: bool, chat: bool
    ) -> None:
        self.answered = 0
        self.latencies: list[float] = []
        self.sent: dict[int, float] = {}
        self.ticket = 0
        self.until = 0.0
        self.closed = False
        self.error = ""
        dialect = Dialect("m", chat=chat, stream=stream)
        requests = {0: http1.format_body(dialect.request(Prompt(PROMPT)))}
        endpoints = []
        for port in ports:
            address = Address.parse(f"http://127.0.0.1:{port}")
            head = http1.format_head("POST", dialect.path, address.authority, {})
            endpoints.append(Endpoint(address, head, -(-width // len(ports))))
        make = Uncounted if chat and stream else None
        self.pool = HttpClient(
            endpoints,
            requests,
            lambda _: make(chat, 10**6) if make else dialect.open_reader(10**6),
            self,
        )

    def submit(self) -> None:
        self.ticket += 1
        self.sent[self.ticket] = time.monotonic()
        self.pool.submit(self.ticket, 0)

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None:
        """Heard of, as LoadGen would."""

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        now = time.monotonic()
        self.answered += len(answers)
        for ticket, _ in answers:
            self.latencies.append(now - self.sent.pop(ticket))
            if self.closed and now < self.until:
                self.submit()

    def failed(self, error: BaseException) -> None:
        self.error = str(error)

    def warm_up(self, width: int, rate: float | None) -> None:
        """Open the connections, at a rate or all of them, and forget what they took."""
        if rate is None:
            self.flood(width, WARM_UP_S)
        else:
            self.pace(min(rate, 200), WARM_UP_S)
        self._drain()
        self.latencies.clear()
        self.answered = 0

    def flood(self, width: int, seconds: float) -> float:
        """Return the answers a second of a closed loop."""
        begun = time.monotonic()
        self.closed, self.until = True, begun + seconds
        for _ in range(width):
            self.submit()
        time.sleep(seconds)
        return self.answered / (time.monotonic() - begun)

    def pace(self, rate: float, seconds: float) -> float:
        """Return the answers a second of an open loop."""
        begun = time.monotonic()
        handed = 0
        while (passed := time.monotonic() - begun) < seconds:
            for _ in range(int(passed * rate) - handed):
                handed += 1
                self.submit()
            time.sleep(TICK_S)
        self._drain()
        return self.answered / seconds

    def _drain(self) -> None:
        until = time.monotonic() + 5
        while self.sent and time.monotonic() < until:
            time.sleep(0.01)


def bare_request(port: int, *, stream: bool) -> bytes:
    dialect = Dialect("m", stream=stream)
    head = http1.format_head("POST", dialect.path, f"127.0.0.1:{port}", {})
    return head + http1.format_body(dialect.request(Prompt(PROMPT)))


def bare_flood(port: int, width: int, seconds: float, size: int) -> float:
    """Return the answers a second of sockets that read and write, and look at nothing.

    ``size``: bytes of an answer, by which its end is known.
    """
    request = bare_request(port, stream=False)
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    left: dict[int, int] = {}
    for _ in range(width):
        made = socket.create_connection(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.send(request)
        sockets[made.fileno()], left[made.fileno()] = made, size
        epoll.register(made, select.EPOLLIN)
    answered, begun = 0, time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        for fd, _ in epoll.poll(0.1):
            left[fd] -= len(sockets[fd].recv(1 << 16))
            if not left[fd]:
                answered += 1
                left[fd] = size
                sockets[fd].send(request)
    return answered / (now - begun)


def bare_ping(port: int, rate: float, seconds: float, size: int) -> list[float]:
    """Return the seconds of one request after the other on one socket."""
    request = bare_request(port, stream=False)
    found = []
    with socket.create_connection(("127.0.0.1", port)) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.monotonic() + seconds
        while (begun := time.monotonic()) < until:
            made.send(request)
            left = size
            while left:
                left -= len(made.recv(1 << 16))
            took = time.monotonic() - begun
            found.append(took)
            time.sleep(max(0.0, 1 / rate - took))
    return found


def share(latencies: Sequence[float], part: float) -> float:
    """Return a percentile in ms, as LoadGen takes it."""
    ordered = sorted(latencies)
    place = min(int(len(ordered) * part), len(ordered) - 1)
    return ordered[place] * 1e3 if ordered else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=["ours", "bare"])
    parser.add_argument("port", type=int, nargs="+")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=0)
    args = parser.parse_args()
    latencies: list[float] = []
    begun = time.process_time()
    if args.who == "bare":
        if args.rate is None:
            rate = bare_flood(args.port[0], args.width, args.seconds, args.size)
            answered = rate * args.seconds
        else:
            latencies = bare_ping(args.port[0], args.rate, args.seconds, args.size)
            answered = len(latencies)
            rate = answered / args.seconds
    else:
        import sys

        sys.setswitchinterval(0.0001)  # as the runner has it
        client = Ours(args.port, args.width, stream=args.stream, chat=args.chat)
        client.warm_up(args.width, args.rate)
        begun = time.process_time()
        if args.rate is None:
            rate = client.flood(args.width, args.seconds)
        else:
            rate = client.pace(args.rate, args.seconds)
        latencies, answered = client.latencies, client.answered
        client.closed = False
        if client.error:
            raise SystemExit(client.error)
    cpu_us = (time.process_time() - begun) / max(answered, 1) * 1e6
    found = {"rate": rate, "p50": share(latencies, 0.5), "p99": share(latencies, 0.99)}
    found["cpu"] = cpu_us
    print(json.dumps(found))  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
