"""What our client of HTTP services costs: its rates and latencies beside bare sockets.

Server, client and baseline are processes of their own; the server says one canned
answer, so that from some rate on the client is the limit. Nothing is asserted of speed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perf.canned_server import answer
from perf.ratio import Row
from perf.suite_run import Bench
from perf.suite_run import interleaved

Record = Callable[[Row], None]
ROOT = Path(__file__).resolve().parents[1]
TOKENS = 16
SECONDS = 3.0
RATES = {False: (1000, 4000, 16_000), True: (250, 1000, 4000)}
"""Streamed or not -> requests a second at which latencies are taken."""
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


ENDPOINTS = (1, 2, 4, 8)
SLOTS, SERVICE_S = 64, 0.1
"""Of each simulated endpoint: 640 answers a second and no more."""


@contextmanager
def server(*args: str, stream: bool) -> Iterator[list[str]]:
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
    found: dict[str, float] = json.loads(done.stdout)
    return found


@streamed
def test_client_rate(bench: Bench, record: Record, stream: bool) -> None:
    """Answers a second with 256 outstanding: from there on the client is the limit."""
    size = len(answer(TOKENS, stream=stream))
    own = ["--stream"] * stream
    with server(stream=stream) as ports:
        seconds = SECONDS * bench.scale
        ours, bare = interleaved(
            bench.runs,
            lambda: drive("ours", ports, seconds, *own)["rate"],
            lambda: drive("bare", ports, seconds, "--size", str(size))["rate"],
        )
    what = f"streams of {TOKENS} tokens" if stream else "whole answers"
    record(Row(f"client, {what}", "req/s", ours, bare, note="against bare sockets"))

    assert min(ours) > 0


@streamed
def test_client_latency(bench: Bench, record: Record, stream: bool) -> None:
    """What the client adds to an answer's way at rising rates, p50 and p99."""
    size = len(answer(TOKENS, stream=stream))
    what = "streamed" if stream else "whole"
    with server(stream=stream) as ports:
        seconds = SECONDS * bench.scale
        for rate in RATES[stream]:
            runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
            for _ in range(bench.runs):
                own = ["--rate", str(rate), *(["--stream"] * stream)]
                runs["ours"].append(drive("ours", ports, seconds, *own))
                ping = ["--rate", str(min(rate, 1000)), "--size", str(size)]
                runs["bare"].append(drive("bare", ports, seconds, *ping))
            for part in ("p50", "p99"):
                ours = [run[part] for run in runs["ours"]]
                bare = [run[part] for run in runs["bare"]]
                kept = [run["rate"] for run in runs["ours"]]
                note = f"{min(kept):,.0f} to {max(kept):,.0f} answers/s"
                record(
                    Row(f"client {what} {rate}/s {part}", "ms", ours, bare, note=note)
                )

                assert min(kept) > 0


@pytest.mark.parametrize("count", ENDPOINTS)
def test_endpoints_add_up(bench: Bench, record: Record, count: int) -> None:
    """N endpoints of a known speed answer N times as much, least outstanding first."""
    most = count * SLOTS / SERVICE_S
    args = ("--ports", str(count), "--slots", str(SLOTS), "--seconds", str(SERVICE_S))
    width = str(2 * SLOTS * count)
    with server(*args, stream=True) as ports:
        seconds = SECONDS * bench.scale
        rates = [
            drive("ours", ports, seconds, "--stream", "--width", width)["rate"]
            for _ in range(bench.runs)
        ]
    note = f"{count} x {SLOTS} requests at a time for {SERVICE_S:g} s each"
    record(Row(f"{count} endpoints", "req/s", rates, [most] * len(rates), note=note))

    assert min(rates) > 0
