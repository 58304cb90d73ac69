"""Our client of HTTP services beside that of mlcommons/endpoints, on one server.

    python scripts/compare_clients.py PYTHON SOURCE [--runs 3] [--seconds 4]

PYTHON is a 3.12 with that project's dependencies, SOURCE its ``src`` folder. Both
clients run on that Python against that project's own max_throughput_server with one
worker, turn about: first as fast as they can with 256 connections, then at equal
offered rates, where a latency is from handing a request over to hearing that it is
answered. Prints medians, and the CPU time that an answer takes in all of a client's
processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 256
LENGTH, INTERVAL = 160, 10
"""Characters of an answer, and of one event of a stream: 16 events."""
RATES = {False: (1000, 4000, 8000), True: (500, 1500, 3000)}
KINDS = {"both": (False, True), "whole": (False,), "streamed": (True,)}
TICK_S = 0.0005
ATTEMPTS = 4
GRACE_S = 5.0


@contextmanager
def run_server(python: str, source: str, *, stream: bool) -> Iterator[int]:
    """Run the other project's server and yield its port."""
    # Imported here: the other project's Python runs this file too.
    from pytest_mlperf.machine.guarded_process import GuardedProcess
    from pytest_mlperf.machine.ports import find_free_port

    port = find_free_port()
    command = [python, "-m", "inference_endpoint.testing.max_throughput_server"]
    command += ["--port", str(port), "--num-workers", "1"]
    command += ["--output-length", str(LENGTH), "--stream-interval", str(INTERVAL)]
    command += ["--stream"] * stream

    # It ends with this program, and its workers with it, however this program ends.
    server = GuardedProcess(
        command, subprocess.DEVNULL, cwd=Path(source), grace_s=GRACE_S
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.end()


def drive_ours(python: str, port: int, seconds: float, *args: str) -> dict[str, float]:
    """Drive our client on the other project's Python."""
    command = [python, "-m", "perf.client_drive", "ours", str(port), "--chat"]
    command += ["--seconds", str(seconds), "--width", str(WIDTH), *args]
    return read_figures(command, str(ROOT))


def drive_theirs(
    python: str, source: str, port: int, seconds: float, *args: str
) -> dict[str, float]:
    """Drive the other client on its Python."""
    command = [python, str(Path(__file__).resolve()), "--drive", str(port)]
    command += ["--seconds", str(seconds), *args]
    return read_figures(command, source)


def read_figures(command: list[str], folder: str) -> dict[str, float]:
    """Return what a drive prints; a client that fails is told of and tried again."""
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            timeout=120,
        )
        if not done.returncode:
            figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            return figures
        last = done.stderr.strip().splitlines()[-1:]
        print(f"  failed: {' '.join(command[1:4])}: {last}", flush=True)
    raise SystemExit("failed every time")


def read_cpu_s(root: int) -> float:
    """Return the CPU seconds that a process and its descendants have taken."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(path.parent.name)] = int(fields[1])
        ticks = int(fields[11]) + int(fields[12])
        seconds[int(path.parent.name)] = ticks / os.sysconf("SC_CLK_TCK")

    def belongs(pid: int) -> bool:
        return pid == root or (pid in parents and belongs(parents[pid]))

    return sum(one for pid, one in seconds.items() if belongs(pid))


def drive(options: argparse.Namespace) -> dict[str, float]:
    """Drive the other project's client in this process, as its own benchmark does."""
    from inference_endpoint.core.types import Query  # type: ignore[import-not-found]
    from inference_endpoint.core.types import QueryResult
    from inference_endpoint.utils import benchmark_httpclient as bench  # type: ignore[import-not-found]

    url = f"http://127.0.0.1:{options.drive}/v1/chat/completions"
    prompt = "what is the capital of France " * 8
    client, query = bench._create_client(
        url, options.workers, WIDTH, options.stream, prompt, False, verbose=False
    )
    state: dict[str, Any] = {"sent": {}, "latencies": [], "answered": 0}

    def take(result: Any) -> None:
        if isinstance(result, QueryResult):
            assert not result.error, result.error
            begun = state["sent"].pop(result.id, None)
            if begun is not None:
                state["latencies"].append(time.monotonic() - begun)
                state["answered"] += 1

    async def receive() -> None:
        while (result := await client.recv()) is not None:
            while result is not None:
                take(result)
                result = client.poll()

    async def pace(rate: float, seconds: float) -> float:
        begun, handed = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            for _ in range(int(passed * rate) - handed):
                handed += 1
                name = f"{begun}-{handed}"
                state["sent"][name] = time.monotonic()
                client.issue(Query(id=name, data=query))
            await asyncio.sleep(TICK_S)
        until = time.monotonic() + 5
        while state["sent"] and time.monotonic() < until:
            await asyncio.sleep(0.01)
        return float(state["answered"] / seconds)

    async def flood(seconds: float) -> float:
        # As its own benchmark does: bursts of 32, as far as there is room.
        begun, handed = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            room = options.room - len(state["sent"])
            for _ in range(min(32, room)):
                handed += 1
                name = str(handed)
                state["sent"][name] = time.monotonic()
                client.issue(Query(id=name, data=query))
            await asyncio.sleep(0 if room > 0 else 0.0001)
        return float(state["answered"] / (time.monotonic() - begun))

    async def run() -> float:
        receiver = asyncio.ensure_future(receive())
        if options.rate is None:
            await pace(200, 0.5)
            state.update(sent={}, latencies=[], answered=0)
            state["cpu"] = read_cpu_s(os.getpid())
            rate = await flood(options.seconds)
        else:
            await pace(min(options.rate, 200), 0.5)
            state.update(sent={}, latencies=[], answered=0)
            state["cpu"] = read_cpu_s(os.getpid())
            rate = await pace(options.rate, options.seconds)
        taken_s = read_cpu_s(os.getpid()) - state["cpu"]
        state["cpu"] = taken_s / max(state["answered"], 1) * 1e6
        receiver.cancel()
        return rate

    rate = asyncio.run_coroutine_threadsafe(run(), client.loop).result()
    latencies = sorted(state["latencies"])
    client.shutdown()
    percentiles = {"p50": 0.5, "p99": 0.99}
    last = len(latencies) - 1
    return {"rate": rate, "cpu": state["cpu"]} | {
        name: latencies[min(int(len(latencies) * part), last)] * 1e3
        for name, part in percentiles.items()
    }


def compare(options: argparse.Namespace) -> None:
    """Print the medians of both clients, turn about."""
    print(
        f"{options.runs} runs of {options.seconds:g} s; load {os.getloadavg()[0]:.1f}"
    )
    for stream in KINDS[options.only]:
        mark = ["--stream"] * stream
        what = f"streams of {LENGTH // INTERVAL} events" if stream else "whole answers"
        with run_server(options.python, options.source, stream=stream) as port:
            for rate in (None, *RATES[stream]):
                flags = mark if rate is None else [*mark, "--rate", str(rate)]
                results: dict[str, list[dict[str, float]]] = {}
                for _ in range(options.runs):
                    sides = {
                        "ours": drive_ours(
                            options.python, port, options.seconds, *flags
                        )
                    }
                    for workers in (1, 2):
                        sides[f"theirs, {workers} workers"] = drive_theirs(
                            options.python, options.source, port, options.seconds,
                            *flags, "--workers", str(workers),
                        )  # fmt: skip
                    for name, one in sides.items():
                        results.setdefault(name, []).append(one)
                title = "as fast as it can" if rate is None else f"{rate}/s"
                print(f"{what}, {title}; load {os.getloadavg()[0]:.1f}", flush=True)
                for name, runs in results.items():
                    middle = {k: median(r[k] for r in runs) for k in runs[0]}
                    print(
                        f"  {name:18} {middle['rate']:10,.0f} /s"
                        f"  p50 {middle['p50']:8.3f} ms  p99 {middle['p99']:8.3f} ms"
                        f"  CPU {middle['cpu']:6.1f} us",
                        flush=True,
                    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", nargs="?", default=sys.executable)
    parser.add_argument("source", nargs="?", default=".")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", choices=list(KINDS), default="both")
    parser.add_argument("--drive", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--room", type=int, default=WIDTH, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # As Ctrl-C: subprocess.run ends the client that is being driven.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if options.drive:
        print(json.dumps(drive(options)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
