"""LoadGen runs against real gRPC servers of KServe v2, well-behaved and faulty."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_mlperf.core.latency_breakdown import COLUMNS
from pytest_mlperf.core.types import Mode
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import grpc_double as double
from tests.support.grpc_double import serve_grpc
from tests.support.kserve_double import make_task
from tests.support.kserve_double import serve_echo
from tests.support.service_doubles import read_refusal

STREAMING = {"engine_options": {"streaming": "1"}}
WAYS = {"calls": {}, "stream": STREAMING}


@pytest.mark.parametrize("way", WAYS)
def test_every_answer_is_its_requests(runner: Runner, tmp_path: Path, way: str) -> None:
    """Of two servers that share the requests; the counters add up."""
    with serve_grpc() as one, serve_grpc() as two:
        task = make_task(
            tmp_path, [one.url, two.url], mode=Mode.ACCURACY,
            asked={"balance": "round"}, **WAYS[way],
        )  # fmt: skip
        result = runner.run(task)
    texts = result.facts.to_texts()

    assert result.metrics == {"acc": 100.0}
    assert texts[f"endpoint {one.url} requests"] == "32 of 32"
    assert texts[f"endpoint {two.url} requests"] == "32 of 32"
    assert texts["model served"] == "echo, double"
    assert texts["transport"].startswith("gRPC")


@pytest.mark.parametrize("way", WAYS)
def test_a_run_tells_where_the_time_of_its_requests_went(
    runner: Runner, tmp_path: Path, way: str
) -> None:
    """The server's counters, the client's clock and LoadGen's mean agree."""
    with serve_grpc() as server:
        result = runner.run(make_task(tmp_path, [server.url], **WAYS[way]))
    steps = result.facts.breakdown_us

    assert set(COLUMNS) < set(steps)
    assert round(steps["Server Compute Infer"], 6) == 5
    assert sum(steps.values()) == pytest.approx(result.facts.end_to_end_us, rel=0.05)


def test_numbers_in_typed_fields_are_answers_too(
    runner: Runner, tmp_path: Path
) -> None:
    """The protocol lets a server choose."""
    with serve_grpc(answer=double.answer_typed) as server:
        result = runner.run(make_task(tmp_path, [server.url], mode=Mode.ACCURACY))

    assert result.metrics == {"acc": 100.0}


@pytest.mark.usefixtures("bounded")
def test_a_server_that_is_gone_is_one_failed_item(
    runner: Runner, tmp_path: Path
) -> None:
    """It names request, URL and time; the next item has every answer."""
    gone = double.Refusal("UNAVAILABLE", "Server is stopping")
    with serve_grpc(gone) as bad, pytest.raises(RunFailed) as caught:
        runner.run(make_task(tmp_path / "bad", [bad.url]))
    with serve_grpc() as good:
        task = make_task(tmp_path / "good", [good.url], mode=Mode.ACCURACY)

        assert runner.run(task).metrics == {"acc": 100.0}
    assert re.search(
        rf"{bad.url}: request for sample \d+ failed after [\d.]+ s: gRPC UNAVAILABLE: "
        "Server is stopping",
        str(caught.value),
    ), str(caught.value)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tls_and_the_token_reach_the_server(
    runner: Runner,
    tmp_path: Path,
    certificate: Path,
    protocol: str,
) -> None:
    """With a certificate that signs itself, which has to be named."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with ExitStack() as stack:
        if protocol == "grpc":
            url = stack.enter_context(serve_grpc(certificate=certificate)).url
        else:
            url = stack.enter_context(serve_echo(context=context)).url
        trusted = {"ca_file": str(certificate)}
        task = make_task(tmp_path / "a", [url], mode=Mode.ACCURACY, asked=trusted)
        result = runner.run(task)
        text = read_refusal(runner, make_task(tmp_path / "b", [url]))

    assert url.startswith(f"{protocol}s://")
    assert result.metrics == {"acc": 100.0}
    assert "the certificate is not trusted" in text
    assert "--mlperf-endpoint-ca" in text


@contextmanager
def serve_garbage() -> Iterator[int]:
    """Answer whoever connects with bytes that are no frames; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"\x16\x03\x01 no frames \x00\xff" * 9)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_another_service_and_nobody_are_refused_in_words(
    runner: Runner, tmp_path: Path
) -> None:
    """Before LoadGen starts."""
    with serve_garbage() as port:
        url = f"grpc://127.0.0.1:{port}"
        other = read_refusal(runner, make_task(tmp_path / "a", [url]))
    absent = read_refusal(runner, make_task(tmp_path, [url]))

    assert f"{url}: no gRPC server answers" in other
    assert f"{url}: no gRPC server answers" in absent
    assert "8001" in absent
