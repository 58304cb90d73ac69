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
from functools import cache
from functools import partial

import pytest

from perf.canned_server import answer
from perf.conftest import Replay
from perf.suite_run import ROOT
from perf.suite_run import Bench

TOKENS = 16
SECONDS = 3.0
LEAST_S = 0.5
"""Of a run, which opens its connections first."""
PACES = [(False, rate) for rate in (1000, 4000, 16_000)]
PACES += [(True, rate) for rate in (250, 1000, 4000)]
"""Streamed or not, and requests a second at which latencies are taken."""
ENDPOINTS = (1, 2, 4, 8)
SLOTS, SERVICE_S = 64, 0.1
"""Of each simulated endpoint: 640 answers a second and no more."""
each_side = pytest.mark.parametrize("side", ["ours", "bare"])
Figures = dict[str, float]
"""Rate, p50 and p99 of a run."""


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


def drive(bench: Bench, who: str, ports: list[str], *args: str) -> Figures:
    """Drive a client in a process of its own."""
    seconds = max(SECONDS * bench.scale, LEAST_S)
    command = [sys.executable, "-m", "perf.client_drive", who, *ports]
    command += ["--seconds", str(seconds), *args]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    figures: Figures = json.loads(ended.stdout)
    return figures


@cache
def measure_client(
    bench: Bench, rate: int, *, stream: bool
) -> dict[str, list[Figures]]:
    """Drive our client and bare sockets at a rate; at 0, with 256 outstanding.

    From there on the client is the limit. Bare sockets know an answer's end by its
    size, and at a rate they send one request after the other.
    """
    ours = ("--stream",) * stream
    bare: tuple[str, ...] = ("--size", str(len(answer(TOKENS, stream=stream))))
    if rate:
        ours += ("--rate", str(rate))
        bare += ("--rate", str(min(rate, 1000)))
    with run_server(stream=stream) as ports:
        return bench.alternate(
            {
                "ours": partial(drive, bench, "ours", ports, *ours),
                "bare": partial(drive, bench, "bare", ports, *bare),
            }
        )


@cache
def measure_endpoints(bench: Bench) -> dict[str, list[float]]:
    """Return the answers a second of every number of endpoints."""

    def measure(count: int) -> float:
        slots = ("--slots", str(SLOTS), "--seconds", str(SERVICE_S))
        width = ("--width", str(2 * SLOTS * count))
        with run_server("--ports", str(count), *slots, stream=True) as ports:
            return drive(bench, "ours", ports, "--stream", *width)["rate"]

    return bench.alternate({str(count): partial(measure, count) for count in ENDPOINTS})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@each_side
def test_client_rate(side: str, stream: bool, bench: Bench, replay: Replay) -> None:
    """Answers a second, against bare sockets."""
    what = f"streams of {TOKENS} tokens" if stream else "whole answers"
    runs = measure_client(bench, 0, stream=stream)[side]
    rates = [figures["rate"] for figures in runs]
    replay.report_rates(f"client, {what}", rates, "answer")


@pytest.mark.parametrize(
    ("stream", "rate"),
    PACES,
    ids=[f"{'streamed' if stream else 'whole'}-{rate}" for stream, rate in PACES],
)
@pytest.mark.parametrize("percentile", ["p50", "p99"])
@each_side
def test_client_latency(
    side: str, percentile: str, stream: bool, rate: int, bench: Bench, replay: Replay
) -> None:
    """What the client adds to an answer's way at rising rates."""
    what = "streamed" if stream else "whole"
    runs = measure_client(bench, rate, stream=stream)[side]
    replay.report_seconds(
        f"client, {what}, {rate:,}/s, {percentile} latency",
        [figures[percentile] / 1e3 for figures in runs],
        **{"answers/s": [figures["rate"] for figures in runs]},
    )

    assert all(figures["rate"] > 0 for figures in runs)


@pytest.mark.parametrize("count", ENDPOINTS)
def test_endpoints_add_up(count: int, bench: Bench, replay: Replay) -> None:
    """N endpoints of a known speed answer N times as much, least outstanding first."""
    replay.report_rates(
        f"endpoints of {SLOTS / SERVICE_S:g} answers/s",
        measure_endpoints(bench)[str(count)],
        "answer",
        most=count * SLOTS / SERVICE_S,
    )
