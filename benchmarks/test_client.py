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

from benchmarks.canned_server import answer
from benchmarks.ratio import Row
from benchmarks.suite_run import Bench
from benchmarks.suite_run import interleaved

Record = Callable[[Row], None]
ROOT = Path(__file__).resolve().parents[1]
TOKENS = 16
SECONDS = 3.0
RATES = {False: (1000, 4000, 16_000), True: (250, 1000, 4000)}
"""Streamed or not -> requests a second at which latencies are taken."""
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@contextmanager
def server(*, stream: bool) -> Iterator[int]:
    """Run the canned server and yield its port."""
    command = [sys.executable, "-m", "benchmarks.canned_server", str(TOKENS)]
    command += ["--stream"] * stream
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


def drive(who: str, port: int, seconds: float, *args: str) -> dict[str, float]:
    """Drive a client in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.client_drive", who, str(port)]
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
    with server(stream=stream) as port:
        seconds = SECONDS * bench.scale
        ours, bare = interleaved(
            bench.runs,
            lambda: drive("ours", port, seconds, *own)["rate"],
            lambda: drive("bare", port, seconds, "--size", str(size))["rate"],
        )
    what = f"streams of {TOKENS} tokens" if stream else "whole answers"
    record(Row(f"client, {what}", "req/s", ours, bare, note="against bare sockets"))

    assert min(ours) > 0


@streamed
def test_client_latency(bench: Bench, record: Record, stream: bool) -> None:
    """What the client adds to an answer's way at rising rates, p50 and p99."""
    size = len(answer(TOKENS, stream=stream))
    what = "streamed" if stream else "whole"
    with server(stream=stream) as port:
        seconds = SECONDS * bench.scale
        for rate in RATES[stream]:
            runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
            for _ in range(bench.runs):
                own = ["--rate", str(rate), *(["--stream"] * stream)]
                runs["ours"].append(drive("ours", port, seconds, *own))
                ping = ["--rate", str(min(rate, 1000)), "--size", str(size)]
                runs["bare"].append(drive("bare", port, seconds, *ping))
            for part in ("p50", "p99"):
                ours = [run[part] for run in runs["ours"]]
                bare = [run[part] for run in runs["bare"]]
                kept = [run["rate"] for run in runs["ours"]]
                note = f"{min(kept):,.0f} to {max(kept):,.0f} answers/s"
                record(
                    Row(f"client {what} {rate}/s {part}", "ms", ours, bare, note=note)
                )

                assert min(kept) > 0
