"""What our client of HTTP services costs: its rates and latencies beside bare sockets.

Server, client and baseline are processes of their own; the server says one canned
answer, so that from some rate on the client is the limit. Nothing is asserted of speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from perf.canned_server import answer
from perf.conftest import Replay
from perf.suite_run import Bench

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 16
SECONDS = 3.0
PACES = [(False, rate) for rate in (1000, 4000, 16_000)]
PACES += [(True, rate) for rate in (250, 1000, 4000)]
"""Streamed or not, and requests a second at which latencies are taken."""
ENDPOINTS = (1, 2, 4, 8)
SLOTS, SERVICE_S = 64, 0.1
"""Of each simulated endpoint: 640 answers a second and no more."""
each_stream = pytest.mark.parametrize(
    "stream", [False, True], ids=["whole", "streamed"], scope="module"
)
each_side = pytest.mark.parametrize("side", ["ours", "bare"])
Figures = dict[str, list[dict[str, float]]]
"""Side -> rate, p50 and p99 of every run."""


@contextmanager
def run_server(*args: str, stream: bool) -> Iterator[list[str]]:
    """Run the canned server and yield its ports."""
    command = [sys.executable, "-m", "perf.canned_server", str(TOKENS), *args]
    command += ["--stream"] * stream
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().split()
        finally:
            process.stdin.close()


def drive(who: str, ports: list[str], seconds: float, *args: str) -> dict[str, float]:
    """Drive a client in a process of its own."""
    command = [sys.executable, "-m", "perf.client_drive", who, *ports]
    command += ["--seconds", str(seconds), *args]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def drive_ours(ports: list[str], bench: Bench, *args: str) -> dict[str, float]:
    """Drive our client for the length of a run."""
    return drive("ours", ports, SECONDS * bench.scale, *args)


def drive_bare(
    ports: list[str], bench: Bench, *args: str, stream: bool
) -> dict[str, float]:
    """Drive bare sockets, which know the end of an answer by its size."""
    size = len(answer(TOKENS, stream=stream))
    return drive("bare", ports, SECONDS * bench.scale, "--size", str(size), *args)


@pytest.fixture(scope="module")
def floods(bench: Bench, stream: bool) -> Figures:
    """Both sides with 256 outstanding: from there on the client is the limit."""
    own = ["--stream"] * stream
    with run_server(stream=stream) as ports:
        return bench.alternate(
            {
                "ours": partial(drive_ours, ports, bench, *own),
                "bare": partial(drive_bare, ports, bench, stream=stream),
            }
        )


@each_stream
@each_side
def test_client_rate(side: str, stream: bool, floods: Figures, replay: Replay) -> None:
    """Answers a second, against bare sockets."""
    what = f"streams of {TOKENS} tokens" if stream else "whole answers"
    rates = [run["rate"] for run in floods[side]]
    replay.report_rates(f"client, {what}", rates, "answer")

    assert min(rates) > 0


@pytest.fixture(scope="module")
def paced(bench: Bench, stream: bool, rate: int) -> Figures:
    """Both sides at a rate; bare sockets answer one request after the other."""
    own = ["--rate", str(rate), *(["--stream"] * stream)]
    ping = ["--rate", str(min(rate, 1000))]
    with run_server(stream=stream) as ports:
        return bench.alternate(
            {
                "ours": partial(drive_ours, ports, bench, *own),
                "bare": partial(drive_bare, ports, bench, *ping, stream=stream),
            }
        )


@pytest.mark.parametrize(
    ("stream", "rate"),
    PACES,
    ids=[f"{'streamed' if stream else 'whole'}-{rate}" for stream, rate in PACES],
    scope="module",
)
@pytest.mark.parametrize("percentile", ["p50", "p99"])
@each_side
def test_client_latency(
    side: str, percentile: str, stream: bool, rate: int, paced: Figures, replay: Replay
) -> None:
    """What the client adds to an answer's way at rising rates."""
    what = "streamed" if stream else "whole"
    rates = [run["rate"] for run in paced[side]]
    replay.report_seconds(
        f"client, {what}, {rate:,}/s, {percentile} latency",
        [run[percentile] / 1e3 for run in paced[side]],
        **{"answers/s": rates},
    )

    assert min(rates) > 0


@pytest.fixture(scope="module")
def endpoint_rates(bench: Bench) -> dict[int, list[float]]:
    """Answers a second of every number of endpoints."""

    def measure(count: int) -> float:
        slots = ("--slots", str(SLOTS), "--seconds", str(SERVICE_S))
        width = ("--width", str(2 * SLOTS * count))
        with run_server("--ports", str(count), *slots, stream=True) as ports:
            return drive_ours(ports, bench, "--stream", *width)["rate"]

    sides = {str(count): partial(measure, count) for count in ENDPOINTS}
    rates = bench.alternate(sides)
    return {count: rates[str(count)] for count in ENDPOINTS}


@pytest.mark.parametrize("count", ENDPOINTS)
def test_endpoints_add_up(
    count: int, endpoint_rates: dict[int, list[float]], replay: Replay
) -> None:
    """N endpoints of a known speed answer N times as much, least outstanding first."""
    replay.report_rates(
        f"endpoints of {SLOTS / SERVICE_S:g} answers/s",
        endpoint_rates[count],
        "answer",
        most=count * SLOTS / SERVICE_S,
    )

    assert min(endpoint_rates[count]) > 0
