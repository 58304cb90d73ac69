"""Requests in a GPU's memory, and a real tritonserver out of the wheel nvidia-pytriton.

Without a GPU its part is played by POSIX shared memory, which the same server maps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.request_batch import send_when_due
from pytest_mlperf.api.samples import Answer
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.resnet50 import open_embedded
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.latency_breakdown import LatencyBreakdown
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.kserve.cuda_driver import CudaDriver
from pytest_mlperf.services.kserve.cuda_driver import missing_driver
from pytest_mlperf.services.kserve.device_memory import DeviceMemory
from pytest_mlperf.services.kserve.provider import TritonService
from pytest_mlperf.services.kserve.requests import TensorRequests
from pytest_mlperf.services.kserve.server_api import HttpServerApi
from pytest_mlperf.services.kserve.timed_client import TimedClient
from pytest_mlperf.services.kserve.transports import choose_transport
from pytest_mlperf.services.local import triton
from tests.support.device_memory import FOLDER
from tests.support.device_memory import HostDriver
from tests.support.device_memory import HostServerApi

NEEDS_SERVER = pytest.mark.skipif(
    triton.unavailable() is not None, reason=str(triton.unavailable())
)
NEEDS_GPU = pytest.mark.skipif(
    missing_driver() is not None, reason=str(missing_driver())
)
NEEDS_NO_GPU = pytest.mark.skipif(
    missing_driver() is None, reason="of machines without a GPU"
)
SERVICE = TritonService()
SAMPLES, OUTSTANDING, TICKET = 5, 3, 7


@pytest.fixture(scope="module")
def workload() -> TensorWorkload:
    """The embedded resnet50."""
    return open_embedded()


@pytest.fixture(scope="module")
def server(
    workload: TensorWorkload, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """A running server of the embedded resnet50 in fp32."""
    folder = tmp_path_factory.mktemp("server")
    options = {"max_batch_size": "4", "instance_group_count": "2", "protocol": "grpc"}
    recipe = SERVICE.embedded_server(workload, "fp32", folder, (0, 1), options)
    with start_server(recipe, folder / "server.log") as made:
        yield made


def target_of(server: LocalServer, way: str, **options: str) -> ServiceTarget:
    """Return where the server is asked: over HTTP, gRPC, or a stream of gRPC."""
    url = server.url if way == "http" else server.service_url
    streaming = {"streaming": "1"} if way == "stream" else {}
    given = {**streaming, **options}
    return ServiceTarget((url,), timeout_s=60, options=given, concurrency=OUTSTANDING)


def ask(target: ServiceTarget, requests: TensorRequests) -> np.ndarray[Any, Any]:
    """Return the answers to each sample twice, all issued at once, in their order."""
    requests.load(range(SAMPLES))
    due = [0.0] * 2 * SAMPLES
    found = send_when_due(partial(SERVICE.open, target, requests), range(SAMPLES), due)
    requests.unload(range(SAMPLES))
    return np.concatenate([one.outputs[0] for one in found.answers if one.outputs])


def place(
    requests: TensorRequests, server: LocalServer, driver: CudaDriver
) -> TensorRequests:
    """Return the requests in a ``HostDriver``'s memory."""
    api = HostServerApi(Address.parse(server.url), {})
    metadata = api.read_metadata(triton.MODEL)
    memory = DeviceMemory([api], metadata["outputs"], driver)
    return replace(requests, device=memory)


@NEEDS_SERVER
@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
def test_answers_are_those_without_it(
    workload: TensorWorkload, server: LocalServer, way: str
) -> None:
    """Of queries that are outstanding together, and nothing is left in memory."""
    target, _ = SERVICE.check(target_of(server, way), workload, lambda: None)
    plain = SERVICE.requests(target, workload)
    driver = HostDriver()
    shared = place(SERVICE.requests(target, workload), server, driver)
    wanted, found = ask(target, plain), ask(target, shared)

    assert len(np.unique(wanted[:SAMPLES].round(1), axis=0)) == SAMPLES
    # Batches differ in their last digits.
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert len(found) == 2 * SAMPLES
    assert driver.live == {}
    assert HttpServerApi(Address.parse(server.url), {}).read_regions() == []
    assert list(FOLDER.glob("pytest-mlperf-test-*")) == []


class CopyListener:
    """Notes when an answer was handed over."""

    def __init__(self) -> None:
        self.done_s = 0.0
        self.error: BaseException | None = None

    def first_token(self, firsts: Sequence[tuple[int, Answer]]) -> None: ...

    def done(self, answers: Sequence[tuple[int, Answer]]) -> None:
        assert [ticket for ticket, _ in answers] == [TICKET]
        self.done_s = time.monotonic()

    def failed(self, error: BaseException) -> None:
        self.error = error


@NEEDS_SERVER
@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
def test_both_copies_are_within_the_latency(
    workload: TensorWorkload, server: LocalServer, way: str
) -> None:
    """The inputs' after the issue and in the step send, the outputs' before the
    completion and in the step recv.
    """
    copy_s = 0.02
    target, _ = SERVICE.check(target_of(server, way), workload, lambda: None)
    driver = HostDriver(copy_s)
    requests = place(SERVICE.requests(target, workload), server, driver)
    requests.load([0])
    listener = CopyListener()
    client = SERVICE.open(target, requests, listener)
    assert driver.copies == []
    issued_s = time.monotonic()
    client.submit(TICKET, 0)
    while not listener.done_s and listener.error is None:
        time.sleep(0.01)
    client.close()
    requests.unload([0])
    (first, in_s), (last, out_s) = driver.copies
    assert isinstance(client, TimedClient)
    steps = client.breakdown(listener.done_s - issued_s)

    assert listener.error is None
    assert (first, last) == ("in", "out")
    assert issued_s < in_s - copy_s < in_s < out_s < listener.done_s
    assert isinstance(steps, LatencyBreakdown)
    assert steps.client_send_s > copy_s
    assert steps.decode_s > copy_s
    assert sum(steps.to_us().values()) == pytest.approx(
        (listener.done_s - issued_s) * 1e6, rel=0.02
    )


@NEEDS_SERVER
@pytest.mark.parametrize("way", ["http", "grpc"])
def test_a_server_that_cannot_map_it_is_refused(
    workload: TensorWorkload, server: LocalServer, way: str
) -> None:
    """With its own words and what to do, and the memory is freed."""
    target, _ = SERVICE.check(target_of(server, way), workload, lambda: None)
    requests = SERVICE.requests(target, workload)
    api = choose_transport(target).open_api(target.urls[0])
    driver = HostDriver()
    requests = replace(requests, device=DeviceMemory([api], (), driver))
    requests.load([0])
    problem = "cannot map memory of GPU 0 .*invalid args.*but should: .*=system or none"
    with pytest.raises(RunRefused, match=problem):
        SERVICE.open(target, requests, CopyListener())
    requests.unload([0])

    assert driver.live == {}


@NEEDS_NO_GPU
@NEEDS_SERVER
def test_a_machine_without_cuda_is_told_before_a_server_starts(
    workload: TensorWorkload, tmp_path: Path
) -> None:
    """The item is skipped with what is missing and what to choose instead."""
    options = {"shared_memory": "cuda"}
    problem = "needs CUDA's driver on this machine, but libcuda.so.1 cannot be loaded"
    why = SERVICE.unavailable(ServiceTarget((), options=options))
    with pytest.raises(RequirementMissing, match=problem) as refused:
        SERVICE.embedded_server(workload, "fp32", tmp_path, (0,), options)

    assert str(refused.value) == why
    assert "shared_memory=system or none" in str(why)
    assert list(tmp_path.iterdir()) == []


def test_a_driver_without_a_gpu_is_told(tmp_path: Path) -> None:
    """A library that can be loaded is not enough."""
    problem = missing_driver("libc.so.6", tmp_path)

    assert problem is not None
    assert f"needs a GPU on this machine, but {tmp_path} has no nvidiactl" in problem


@NEEDS_GPU
def test_the_gpus_memory_keeps_what_is_copied_there() -> None:
    """And another process gets a handle of it."""
    driver = CudaDriver()
    address = driver.allocate(3)
    source, given = driver.pin(3)
    target, taken = driver.pin(3)
    given[:] = b"abc"
    driver.copy_in(address, source, 3)
    driver.copy_out(target, address, 3)
    handle = driver.share(address)

    assert bytes(taken) == b"abc"
    assert len(handle) == 64
    for memory in (source, target):
        driver.unpin(memory)
    driver.free(address)


@NEEDS_GPU
@NEEDS_SERVER
@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
def test_a_server_on_the_gpu_answers_as_without_it(
    workload: TensorWorkload, server: LocalServer, way: str
) -> None:
    """Through the GPU's own memory; no region is left in the server."""
    found = {}
    for kind in ("none", "cuda"):
        asked = target_of(server, way, shared_memory=kind)
        target, facts = SERVICE.check(asked, workload, lambda: None)
        found[kind] = ask(target, SERVICE.requests(target, workload))

    assert facts["shared memory"].startswith("cuda: inputs and outputs, on GPU 0")
    assert len(found["cuda"]) == 2 * SAMPLES
    np.testing.assert_allclose(found["cuda"], found["none"], atol=1e-4)
    assert HttpServerApi(Address.parse(server.url), {}).read_cuda_regions() == []
