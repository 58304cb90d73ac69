"""LoadGen here, the engine behind ``pytest-mlperf serve``'s server: a network run."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from pytest_mlperf.api.request_batch import send_all
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.served_model import ANY
from pytest_mlperf.api.served_model import ServedModel
from pytest_mlperf.api.served_model import TensorForm
from pytest_mlperf.api.service import ServiceTarget
from pytest_mlperf.commands import serve
from pytest_mlperf.commands.main import main
from pytest_mlperf.config.contradictions import find_contradictions
from pytest_mlperf.config.options import Options
from pytest_mlperf.core.errors import RunRefused
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.types import Mode
from pytest_mlperf.run.service_client import name_network_sut
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.services.kserve.arrivals import Arrivals
from pytest_mlperf.services.kserve.arrivals import ServerEnds
from pytest_mlperf.services.kserve.model_server import run_server
from pytest_mlperf.services.kserve.provider import TritonService
from pytest_mlperf.services.kserve.served_tensors import BadRequest
from pytest_mlperf.services.kserve.served_tensors import read_request
from tests.support.kserve_double import make_task

FLOATS = TensorForm(np.dtype(np.float32), (ANY, 4))
OUTPUT = {"number": TensorForm(np.dtype(np.float32), (ANY, 1))}
DELAY_S = 0.02


class EchoStream:
    """Answers with the first number of every row, and notes its batches."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s, self.sizes = pause_s, list[int]()

    def __call__(self, batch: Batch, size: int) -> Sequence[Array]:
        self.sizes.append(size)
        time.sleep(self.pause_s)
        return [next(iter(batch.values()))[:, :1]]


def echo(stream: EchoStream, name: str) -> ServedModel:
    """Return the model of the benchmark ECHO, in one stream."""
    return ServedModel("echo", "numpy", {name: FLOATS}, OUTPUT, [stream], max_batch=8)


def ask(url: str, data: bytes | None = None, **fields: str) -> tuple[int, bytes]:
    """Return status and body of one request."""
    request = urllib.request.Request(url, data, fields)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextmanager
def delay(url: str) -> Iterator[str]:
    """Relay TCP to a server, every piece ``DELAY_S`` later in each direction."""
    target = urlsplit(url)
    assert target.hostname
    listener = socket.create_server(("127.0.0.1", 0))
    opened = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                time.sleep(DELAY_S)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((target.hostname, target.port))
            opened.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for one in opened:
            # close() alone leaves a thread in accept() or recv().
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def run_over(
    runner: Runner, folder: Path, url: str, mode: Mode
) -> tuple[str, dict[str, str]]:
    """Return the SUT's name in LoadGen's log, and the run's facts in words."""
    task = make_task(folder, [url], mode=mode, asked={"over_network": True})
    result = runner.run(task)
    if mode is Mode.ACCURACY:
        assert result.metrics == {"acc": 100.0}
    return Log.read(task.folder).text("sut_name"), result.facts.to_texts()


def test_a_network_run_is_named_by_its_server(runner: Runner, tmp_path: Path) -> None:
    """And has every answer, out of batches that the server made of what arrived."""
    stream = EchoStream(pause_s=0.002)
    with run_server(echo(stream, "number"), "127.0.0.1", 0, "node-7") as url:
        name, facts = run_over(runner, tmp_path, url, Mode.ACCURACY)

    assert name == f"Network SUT: node-7 at {url}"
    assert facts["model served"] == "echo, numpy"
    assert max(stream.sizes) > 1
    assert sum(stream.sizes) >= 64


def test_a_slower_way_is_the_networks_share(runner: Runner, tmp_path: Path) -> None:
    """A relay that holds everything back makes the server's own time no longer."""
    stream = EchoStream(pause_s=0.002)
    with (
        run_server(echo(stream, "number"), "127.0.0.1", 0, "far") as url,
        delay(url) as relay,
    ):
        _, facts = run_over(runner, tmp_path, relay, Mode.PERFORMANCE)
    away, whole, own = (
        float(word.replace(",", "")) / 1e6
        for word in re.findall(r"[\d,]+(?= us|$| \()", facts["network"])
    )

    assert away >= 2 * DELAY_S
    assert own < whole - 2 * DELAY_S
    assert away + own == pytest.approx(whole, abs=2e-6)


def test_nodes_have_unique_names() -> None:
    """Every Triton calls itself triton; its address tells it from the next one."""
    name = name_network_sut({"http://a:1": "triton", "http://b:1": "", "grpc://c": "x"})

    assert (
        name == "Network SUT: triton at http://a:1, node at http://b:1, x at grpc://c"
    )


def test_the_server_answers_what_others_ask() -> None:
    """In JSON without extensions; what is wrong has words and a status of HTTP."""
    inputs = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [*range(8)]}
    good = json.dumps({"inputs": [inputs]}).encode()
    with run_server(echo(EchoStream(), "x"), "127.0.0.1", 0, "node") as url:
        infer = f"{url}/v2/models/echo/infer"
        answer = json.loads(ask(infer, good)[1])
        bad = json.dumps({"inputs": [{**inputs, "datatype": "INT8"}]}).encode()
        refusals = [
            ask(infer, bad),
            ask(infer, b"no JSON"),
            ask(infer, good, **{"Inference-Header-Content-Length": "x"}),
            ask(f"{url}/v2/models/other/infer", good),
        ]
        (counted,) = json.loads(ask(f"{url}/v2/models/echo/stats")[1])["model_stats"]
        taken = int(url.rpartition(":")[2])
        with (
            pytest.raises(RunRefused, match=r"cannot listen on .* --port"),
            run_server(echo(EchoStream(), "x"), "127.0.0.1", taken, "node"),
        ):
            pass

    assert answer["outputs"][0]["data"] == [0, 4]
    assert [status for status, _ in refusals] == [400, 400, 400, 404]
    assert b"INT8 for x, but the model takes FP32" in refusals[0][1]
    assert (counted["inference_count"], counted["execution_count"]) == (2, 1)
    assert counted["inference_stats"]["fail"]["count"] == 3


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": [9, 4]}, "144"),
        ({"shape": [1, 5]}, r"\[1, 5\] for x, but the model takes \[-1, 4\]"),
        ({"shape": [-1, 4]}, r"\[-1, 4\]"),
        ({"name": "y"}, "inputs y, but the model 'echo' takes x"),
        ({"parameters": {"binary_data_size": 15}}, "15 bytes for x, but FP32"),
        (
            {"shape": [9, 4], "parameters": {"binary_data_size": 144}},
            "144 bytes for x, but FP32",
        ),
        ({"parameters": {}}, "no array"),
        ({"shape": None}, "no array"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(
    change: dict[str, object], problem: str
) -> None:
    """Before it is in a batch with others."""
    given = {
        "name": "x", "datatype": "FP32", "shape": [1, 4],
        "parameters": {"binary_data_size": 16}, **change,
    }  # fmt: skip
    head = json.dumps({"inputs": [given]}).encode()

    with pytest.raises(BadRequest, match=problem):
        read_request(head + bytes(16), len(head), echo(EchoStream(), "x"))


def test_sequences_of_several_lengths_share_a_batch() -> None:
    """Padded on the way in, cut on the way out."""
    seen = []

    def double(batch: Batch, size: int) -> list[Array]:
        seen.append((size, batch["ids"].shape))
        time.sleep(0.05)
        return [batch["ids"] * 2]

    form = TensorForm(np.dtype(np.int64), (ANY, ANY))
    model = ServedModel("m", "", {"ids": form}, {"out": form}, [double], 4, pads=True)
    arrivals = Arrivals(model)
    found: dict[int, list[int]] = {}

    def send(length: int) -> None:
        row = np.arange(1, length + 1)[np.newaxis]
        found[length] = arrivals.infer({"ids": row}).outputs[0].tolist()[0]

    threads = [threading.Thread(target=send, args=(n,)) for n in (1, 5, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrivals.close()

    assert found == {n: [2 * one for one in range(1, n + 1)] for n in (1, 5, 2, 3)}
    assert max(size for size, _ in seen) > 1
    with pytest.raises(ServerEnds):
        arrivals.infer({"ids": np.ones((1, 1), np.int64)})


def test_serve_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    """With what was asked answered, and status 0: the command line, on resnet50."""
    words = [
        "serve", "resnet50", "--port", "0", "--precision", "fp32", "--batch", "2",
        "--streams", "1x1", "--cache", str(tmp_path),
    ]  # fmt: skip
    code = "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        url = line.partition(" at ")[2].partition(",")[0]
        described = json.loads(ask(f"{url}/v2/models/resnet50")[1])
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        status = process.wait(timeout=300)
    finally:
        process.kill()
        process.communicate()

    assert described["inputs"][0]["datatype"] == "FP32"
    assert (status, rest) == (0, "ended: what had been asked was answered\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bert", "--engine", "null"], "gives answers without a model"),
        (["bert", "--engine", "triton"], "is a service, but should be an engine"),
        (["bert", "--precision", "fp3"], "onnxruntime has"),
        (["bert", "--engine-options", "speed=2"], "--engine-options speed"),
        (["3d-unet"], "a sample takes several runs of its model"),
        (["llama3.1-8b", "--rehearsal"], "is timed by tokens, which an oracle has not"),
        (["dlrm"], "a recommender's sample has several rows"),
    ],
)
def test_what_cannot_be_served_is_said(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is built; status 2."""
    assert main(["serve", *arguments]) == serve.REFUSED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["3d-unet", "bert"])
def test_a_rehearsed_server_sends_the_true_answers(name: str) -> None:
    """As a benchmark of its rule alone, and one whose samples have several lengths."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    arguments = parser.parse_args([name, "--rehearsal", "--streams", "1x1"])
    served = serve.build_engine(arguments)
    service = TritonService()
    with (
        served.open() as model,
        run_server(model, "127.0.0.1", 0, "node-7") as url,
    ):
        target, _ = service.check(ServiceTarget((url,)), served.workload, lambda: None)
        requests = service.requests(target, served.workload)
        requests.load([0, 1])
        found = send_all(
            partial(service.open, target, requests),
            [0, 1], outstanding=2, count=2, beat=lambda: None,
        )  # fmt: skip
        wanted = sorted(
            next(iter(requests.gather(n).values())).tobytes() for n in (0, 1)
        )

    assert served.workload.kind == "synthetic"
    assert model.platform == "oracle, fp32"
    assert sorted(one.outputs[0].tobytes() for one in found.answers if one.outputs) == (
        wanted
    )


def test_a_network_session_has_servers_elsewhere_and_no_edge_system() -> None:
    """Said before the first item."""
    alone = Options(division="network")
    served = replace(alone, triton=("http://a:8000",))
    (unnamed,) = find_contradictions(alone)
    (at_the_edge,) = find_contradictions(replace(served, category="edge"))

    assert "name them with --mlperf-triton" in unnamed
    assert [*find_contradictions(replace(alone, rehearsal=True))] == [unnamed]
    assert [*find_contradictions(served)] == []
    assert "leave out edge" in at_the_edge
    assert [*find_contradictions(replace(alone, division="closed"))] == []
