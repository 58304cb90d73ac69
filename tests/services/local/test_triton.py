"""A real tritonserver, out of the wheel nvidia-pytriton, through the public interface.

Skipped where it is not installed; the tox environment ``triton`` has it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api import registry
from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.engine import BuildRequest
from pytest_mlperf.api.errors import RequestFailed
from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.api.workload import TensorWorkload
from pytest_mlperf.benchmarks.resnet50 import open_embedded
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.http.address import Address
from pytest_mlperf.services.kserve.provider import TritonService
from pytest_mlperf.services.kserve.server_api import HttpServerApi
from pytest_mlperf.services.local import triton
from tests.support.doubles import await_true
from tests.support.source import ROOT

pytestmark = pytest.mark.skipif(
    triton.unavailable() is not None, reason=str(triton.unavailable())
)
SERVICE = TritonService()


def find_regions() -> list[Path]:
    """Return the shared memory of all servers of ours on this machine."""
    return list(triton.SHARED_MEMORY.glob(f"{triton.PREFIX}-*"))


OTHERS = find_regions()
"""Of servers that somebody else ran before."""
MARK = "TESTS_TRITON"
"""A variable that all servers of these tests inherit, and no other worker's do."""


@pytest.fixture(scope="module", autouse=True)
def mark() -> Iterator[str]:
    """Mark what these tests start; tests of another file may have a server too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, value := uuid.uuid4().hex)
        yield value


def is_of_another(path: Path) -> bool:
    """Return whether a region's server runs, and was not started by these tests."""
    number = path.name.removeprefix(f"{triton.PREFIX}-").partition("-")[0]
    try:
        variables = Path(f"/proc/{number}/environ").read_bytes()
    except OSError:
        return False  # it has ended, and left this
    return f"{MARK}={os.environ[MARK]}".encode() not in variables


@pytest.fixture(scope="module")
def workload() -> TensorWorkload:
    """The embedded resnet50."""
    return open_embedded()


def list_regions() -> list[Path]:
    """Return the shared memory that servers of these tests have."""
    found = [path for path in find_regions() if path not in OTHERS]
    return [path for path in found if not is_of_another(path)]


@pytest.fixture(scope="module")
def recipe(
    workload: TensorWorkload, tmp_path_factory: pytest.TempPathFactory
) -> ServerRecipe:
    """How the embedded resnet50 is served in fp32."""
    cache = tmp_path_factory.mktemp("cache")
    options = {"max_batch_size": "4", "protocol": "grpc"}
    return SERVICE.embedded_server(workload, "fp32", cache, (0, 1), options)


@pytest.fixture(scope="module")
def server(
    recipe: ServerRecipe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServer]:
    """A running server, which leaves nothing behind."""
    with start_server(recipe, tmp_path_factory.mktemp("server") / "log") as made:
        yield made
    assert list_regions() == []


def target_of(server: LocalServer, way: str = "http") -> ServiceTarget:
    """Return where the server is asked: over HTTP, gRPC, or a stream of gRPC."""
    url = server.url if way == "http" else server.service_url
    options = {"streaming": "1"} if way == "stream" else {}
    return ServiceTarget((url,), timeout_s=60, options=options)


@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
def test_its_answers_are_the_engines(
    workload: TensorWorkload, server: LocalServer, tmp_path: Path, way: str
) -> None:
    """Of single samples and of batches, bit by bit the same file."""
    target, facts = SERVICE.check(target_of(server, way), workload, lambda: None)
    requests = SERVICE.batched_requests(target, workload, 4)
    requests.load([0, 1])
    found = send_all(
        lambda listener: SERVICE.open(target, requests, listener),
        [1], outstanding=1, count=1, beat=lambda: None,
    )  # fmt: skip
    (outputs,) = found.answers[0].outputs or ()
    provider = registry.load("engine", "onnxruntime")
    build = provider.build(BuildRequest(workload, "fp32", tmp_path))
    engine = provider.open(build, 1)
    (wanted,) = engine.infer(requests.gather(1), 4)

    assert facts["max_batch_size"] == "4"
    assert outputs.shape == (4, 1000)
    np.testing.assert_allclose(outputs, wanted, atol=1e-4)


@pytest.mark.parametrize("way", ["http", "grpc", "stream"])
def test_requests_in_shared_memory_are_answered_alike(
    workload: TensorWorkload, server: LocalServer, way: str
) -> None:
    """Every sample has its own answer, in memory too, and no region is left."""
    answers = {}
    for kind in ("none", "system"):
        plain = target_of(server, way)
        options = {**plain.options, "shared_memory": kind}
        shared = replace(plain, options=options)
        target, facts = SERVICE.check(shared, workload, lambda: None)
        requests = SERVICE.requests(target, workload)
        requests.load([0, 1, 2])
        found = send_all(
            partial(SERVICE.open, target, requests),
            [0, 1, 2], outstanding=1, count=3, beat=lambda: None,
        )  # fmt: skip
        assert sorted(requests.rooms) == ([] if kind == "none" else [0, 1, 2])
        requests.unload([0, 1, 2])
        answers[kind] = [
            one.outputs[0].tolist() for one in found.answers if one.outputs
        ]
        said = {"none": None, "system": "system: inputs and outputs"}[kind]
        assert facts.get("shared memory") == said

    assert answers["none"] == answers["system"]
    assert len(answers["none"]) == 3
    status = HttpServerApi(Address.parse(server.url), {}).read_regions()
    assert status == []
    assert list(triton.SHARED_MEMORY.glob(f"pytest-mlperf-{os.getpid()}-*")) == []


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("kind", ["ts-trace", "ts-script"])
def test_torchscript_is_served(tmp_path: Path, kind: str) -> None:
    """Sequences of every length, alone and in shared memory, as the source answers."""
    pytest.importorskip("torch", reason="the engine torch writes TorchScript")
    workload = registry.benchmark("bert").open_workload("embedded", None)
    assert isinstance(workload, TensorWorkload)
    options = {"format": kind, "max_batch_size": "4", "instance_group_count": "1"}
    recipe = SERVICE.embedded_server(workload, "fp32", tmp_path, (0,), options)
    provider = registry.load("engine", "onnxruntime")
    build = provider.build(BuildRequest(workload, "fp32", tmp_path / "build"))
    engine = provider.open(build, 1)
    before = list_regions()
    with start_server(recipe, tmp_path / "server.log") as server:
        for shared in ("none", "system"):
            target = replace(target_of(server), options={"shared_memory": shared})
            target, _ = SERVICE.check(target, workload, lambda: None)
            requests = SERVICE.batched_requests(target, workload, 3)
            requests.load([0, 1])
            found = send_all(
                partial(SERVICE.open, target, requests),
                [0, 1], outstanding=1, count=2, beat=lambda: None,
            )  # fmt: skip
            for index, answer in enumerate(found.answers):
                wanted = engine.infer(requests.gather(index), 3)
                for one, two in zip(answer.outputs or (), wanted, strict=True):
                    np.testing.assert_allclose(one, two, atol=1e-3)
            requests.unload([0, 1])

    assert list_regions() == before


LIMITED = (
    ("kind: KIND_AUTO", 'kind: KIND_CPU rate_limiter { resources { name: "R" } }'),
    (
        "dynamic_batching {",
        "dynamic_batching {\n  default_queue_policy { max_queue_size: 1 }",
    ),
)
"""In config.pbtxt: one instance at a time, and hardly a queue in front of it."""
FURTHER = (
    "--model-control-mode=explicit", f"--load-model={triton.MODEL}",
    "--rate-limit=execution_count", "--rate-limit-resource=R:1",
)  # fmt: skip


def is_served(target: ServiceTarget, workload: TensorWorkload) -> bool:
    """Return whether a test request is answered."""
    try:
        SERVICE.check(target, workload, lambda: None)
    except RunRefused:
        return False
    return True


def test_a_refusal_and_an_unloaded_model_are_one_failed_request(
    workload: TensorWorkload, recipe: ServerRecipe, tmp_path: Path
) -> None:
    """By the rate limiter over HTTP, by model control in the middle over gRPC."""
    repository = tmp_path / "models"
    shutil.copytree(recipe.command[-1], repository)
    path = repository / triton.MODEL / "config.pbtxt"
    text = path.read_text()
    for old, new in LIMITED:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    command = (*recipe.command[:-1], str(repository), *FURTHER)
    limited = replace(recipe, command=command)
    with start_server(limited, tmp_path / "server.log") as server:
        unload = f"{server.url}/v2/repository/models/{triton.MODEL}/unload"
        unloaded: list[int] = []

        def unload_once() -> None:
            if not unloaded:
                request = urllib.request.Request(unload, b"{}")  # noqa: S310
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                    unloaded.append(answer.status)

        problems = []
        for way, outstanding, beat in (
            ("http", 16, lambda: None), ("grpc", 1, unload_once),
        ):  # fmt: skip
            asked = target_of(server, way)
            # The queue still has what was sent before: a test request may be refused.
            await_true(partial(is_served, asked, workload), "an empty queue")
            target, _ = SERVICE.check(asked, workload, lambda: None)
            target = replace(target, concurrency=outstanding)
            requests = SERVICE.requests(target, workload)
            requests.load([0])
            with pytest.raises(
                RequestFailed, match=f"{target.urls[0]}: .* after"
            ) as it:
                send_all(
                    partial(SERVICE.open, target, requests),
                    [0], outstanding=outstanding, count=10**6, beat=beat,
                )  # fmt: skip
            problems.append(it.value.problem)

    assert "HTTP 503" in problems[0]
    assert "Exceeds maximum queue size" in problems[0]
    assert unloaded == [200]
    assert "gRPC" in problems[1]
    assert "model" in problems[1]


@pytest.mark.parametrize("way", ["http", "stream"])
def test_a_killed_server_is_one_failed_request(
    workload: TensorWorkload, recipe: ServerRecipe, tmp_path: Path, way: str
) -> None:
    """It names URL, sample and time, and the server's memory is removed."""
    before = list_regions()
    with start_server(recipe, tmp_path / "server.log") as server:
        target, _ = SERVICE.check(target_of(server, way), workload, lambda: None)
        requests = SERVICE.requests(target, workload)
        requests.load([0])
        killed: list[str] = []

        def kill_once() -> None:
            if not killed:
                found = subprocess.run(
                    ["pgrep", "-f", f"http-port={server.port}"],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                killed.extend(found.stdout.split())
                for number in killed:
                    os.kill(int(number), signal.SIGKILL)

        with pytest.raises(RequestFailed, match=r"request for sample \d+ failed after"):
            send_all(
                lambda listener: SERVICE.open(target, requests, listener),
                [0], outstanding=4, count=10**6, beat=kill_once,
            )  # fmt: skip
    until = time.monotonic() + 20
    while list_regions() != before and time.monotonic() < until:
        time.sleep(0.1)

    assert killed
    assert list_regions() == before


def test_the_variables_of_nvidias_scripts_are_a_deployment(tmp_path: Path) -> None:
    """Its table has their precision, batch and instances; then requests at a rate."""
    loads = (
        "request_rate_range=5:10:5", "measurement_mode=count_windows",
        "measurement_request_count=3",
    )  # fmt: skip
    command = [
        sys.executable, "-m", "pytest", str(ROOT / "suites/test_deployment.py"), "-k",
        "resnet50", "--mlperf-engine", "triton", "--mlperf-duration", "0.2",
        "--mlperf-engine-options", ",".join(loads),
        "--mlperf-endpoint-concurrency", "8",
        "--mlperf-reports", str(tmp_path / "reports"),
        "--mlperf-cache", str(tmp_path / "cache"), "-p", "no:cacheprovider",
    ]  # fmt: skip
    variables = {
        "FORMAT": "onnx", "PRECISION": "fp32", "BATCH_SIZE": "2", "MAX_BATCH_SIZE": "4",
        "NUMBER_OF_MODEL_INSTANCES": "1", "TRITON_PREFERRED_BATCH_SIZES": "2 4",
    }  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (path,) = (tmp_path / "reports/latest/deployment").glob("*.md")
    text = path.read_text()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()]
    table = dict(row for row in rows if len(row) == 2)

    assert text.splitlines()[0].endswith(
        ", ONNX Runtime in Triton with FP32 (resnet50)"
    )
    assert table["Backend"] == "ONNX Runtime in Triton"
    assert table["Precision"] == "FP32"
    assert table["Max batch size"] == "4"
    assert re.fullmatch(r"[\d.]+ \(embedded samples\)", table["acc Score"])
    assert table["Number of model instances"] == "1"
    assert [row[:2] for row in rows if len(row) > 2 and row[0].isdecimal()] == [
        ["2", "1"], ["1", "5"], ["1", "10"],
    ]  # fmt: skip
    assert "Request Rate" in text


@pytest.mark.parametrize(
    ("options", "modes"),
    [
        ("protocol=http,shared_memory=system", ["performance"]),
        ("protocol=grpc", ["accuracy", "performance"]),
    ],
)
def test_the_suites_deploy_and_measure_it(
    tmp_path: Path, options: str, modes: list[str]
) -> None:
    """Accuracy and performance through LoadGen; the breakdown's sum is LoadGen's."""
    command = [
        sys.executable, "-m", "pytest", str(ROOT / "suites"), "-k",
        f"resnet50 and offline and ({' or '.join(modes)})",
        "--mlperf-engine", "triton", "--mlperf-duration", "0.1",
        # More than any machine does: a probe beside other load finds too little.
        "--mlperf-target-qps", "offline=600", "--mlperf-endpoint-concurrency", "8",
        "--mlperf-engine-options", options,
        "--mlperf-precision", "fp32", "--mlperf-reports", str(tmp_path / "reports"),
        "--mlperf-cache", str(tmp_path / "cache"), "-p", "no:cacheprovider",
    ]  # fmt: skip
    before = list_regions()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (tmp_path / "reports/latest/results.jsonl").read_text().splitlines()
    runs = [json.loads(line) for line in lines]
    verdicts = [run["verdict"] for run in runs if run.get("verdict")]

    assert done.returncode == 0, done.stdout
    assert sorted(verdict["mode"] for verdict in verdicts) == modes
    (timed,) = [v["run"] for v in verdicts if v["mode"] == "performance"]
    steps = timed["breakdown_us"]
    assert sum(steps.values()) == pytest.approx(timed["end_to_end_us"], rel=0.02)
    assert min(steps.values()) >= 0
    assert "mean us: wait" in done.stdout
    assert list_regions() == before
