"""Our gRPC client of tensors beside tritonclient's asynchronous ones, on one server.

    python scripts/compare_grpc.py [--runs 5] [--requests 3000] [--outstanding 16]

Starts the tritonserver of the package nvidia-pytriton with a model that returns its
input (384 numbers), and keeps so many requests outstanding, turn about: ours as calls,
ours as one stream, ``InferenceServerClient.async_infer`` of tritonclient.grpc, and
``infer`` of tritonclient.grpc.aio. A latency is from handing a request over to having
its array. Prints the median of each, and the medians of ours over theirs by run: a
ratio of rates above 1 and a ratio of p99 below 1 are in our favour. Their inputs are
made once, before the run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import Listener
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.kserve.grpc_messages import encode_grpc_request
from pytest_mlperf.services.kserve.requests import WireRequests
from pytest_mlperf.services.kserve.tensors import ReceiveTimes
from pytest_mlperf.services.kserve.transports import GrpcTransport
from pytest_mlperf.services.local import triton

NUMBERS = np.ones((1, 384), np.float32)
CONFIG = """\
name: "echo"
backend: "python"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
dynamic_batching { }
"""
MODEL = """\
import triton_python_backend_utils as backend

class TritonPythonModel:
    def execute(self, requests):
        made = []
        for request in requests:
            given = backend.get_input_tensor_by_name(request, "x").to_dlpack()
            echoed = backend.Tensor.from_dlpack("y", given)
            made.append(backend.InferenceResponse([echoed]))
        return made
"""
Figures = tuple[float, float]
"""Requests a second, and the 99th percentile of their latency in milliseconds."""


def summarize(latencies: list[float], seconds: float) -> Figures:
    ordered = sorted(latencies)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return len(ordered) / seconds, p99 * 1e3


def drive_ours(target: ServiceTarget, count: int, outstanding: int) -> Figures:
    """Drive our client through the loop of warm-ups and probes."""
    bodies = {0: encode_grpc_request({"x": NUMBERS}, ("y",))}
    requests = WireRequests(("y",), 1, bodies)
    wide = replace(target, concurrency=outstanding)

    def open_client(listener: Listener) -> Any:
        return GrpcTransport(wide).open_client(requests, ReceiveTimes(), listener)

    found = send_all(
        open_client, [0], outstanding=outstanding, count=count, beat=lambda: None
    )
    return summarize(list(found.latencies), found.seconds)


def drive_calls_back(address: str, count: int, outstanding: int) -> Figures:
    """Drive tritonclient's ``async_infer``; an answer's call-back sends the next."""
    import tritonclient.grpc as grpc_client

    given = grpc_client.InferInput("x", list(NUMBERS.shape), "FP32")
    given.set_data_from_numpy(NUMBERS)
    latencies: list[float] = []
    # Re-entered where a call is over before its call-back is added.
    over, lock = threading.Event(), threading.RLock()
    sent = 0

    def send() -> None:
        nonlocal sent
        sent += 1
        begun = time.monotonic()

        def take(result: Any, error: Any) -> None:
            assert error is None, error
            result.as_numpy("y")
            with lock:
                latencies.append(time.monotonic() - begun)
                if sent < count:
                    send()
                elif len(latencies) == count:
                    over.set()

        client.async_infer("echo", [given], callback=take)

    with grpc_client.InferenceServerClient(address) as client:
        started = time.monotonic()
        with lock:
            for _ in range(outstanding):
                send()
        over.wait()
        return summarize(latencies, time.monotonic() - started)


def drive_asyncio(address: str, count: int, outstanding: int) -> Figures:
    """Drive tritonclient's asyncio client; so many coroutines ask in turn."""
    from tritonclient.grpc import aio

    async def run() -> Figures:
        given = aio.InferInput("x", list(NUMBERS.shape), "FP32")
        given.set_data_from_numpy(NUMBERS)
        latencies: list[float] = []
        left = count

        async def ask() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                begun = time.monotonic()
                (await client.infer("echo", [given])).as_numpy("y")
                latencies.append(time.monotonic() - begun)

        client = aio.InferenceServerClient(address)
        started = time.monotonic()
        await asyncio.gather(*(ask() for _ in range(outstanding)))
        found = summarize(latencies, time.monotonic() - started)
        await client.close()
        return found

    # On the loop that our client uses: gRPC wants one a process.
    from pytest_mlperf.services.kserve.grpc_client import start_loop

    return asyncio.run_coroutine_threadsafe(run(), start_loop()).result()


def print_ratios(found: dict[str, list[Figures]]) -> None:
    for name, runs in found.items():
        rate, p99 = (median(column) for column in zip(*runs, strict=True))
        print(f"{name:28} {rate:8,.0f} requests/s  p99 {p99:6.2f} ms")
    for ours in ("ours, calls", "ours, stream"):
        for theirs in ("tritonclient async_infer", "tritonclient aio"):
            pairs = list(zip(found[ours], found[theirs], strict=True))
            rate = median(a[0] / b[0] for a, b in pairs)
            p99 = median(a[1] / b[1] for a, b in pairs)
            print(f"{ours} / {theirs}: rate {rate:.2f}, p99 {p99:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--outstanding", type=int, default=16)
    options = parser.parse_args()
    if why := triton.unavailable():
        print(why, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "echo" / "1").mkdir(parents=True)
        (folder / "echo" / "config.pbtxt").write_text(CONFIG)
        (folder / "echo" / "1" / "model.py").write_text(MODEL)
        command = (
            sys.executable, "-m", triton.__name__, "--port", "{port}", "--grpc-port",
            "{grpc_port}", "--model-repository", name,
        )  # fmt: skip
        recipe = ServerRecipe(command, health=triton.HEALTH, url=triton.URLS["grpc"])
        with start_server(recipe, folder / "server.log") as server:
            url = server.service_url
            address = url.removeprefix("grpc://")
            calls = ServiceTarget((url,), "echo")
            stream = replace(calls, options={"streaming": "1"})
            drives: dict[str, Callable[[int, int], Figures]] = {
                "ours, calls": partial(drive_ours, calls),
                "tritonclient async_infer": partial(drive_calls_back, address),
                "ours, stream": partial(drive_ours, stream),
                "tritonclient aio": partial(drive_asyncio, address),
            }
            found: dict[str, list[Figures]] = {name: [] for name in drives}
            for drive in drives.values():  # warm
                drive(200, options.outstanding)
            for _ in range(options.runs):
                for kind, drive in drives.items():
                    found[kind].append(drive(options.requests, options.outstanding))
            print_ratios(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
