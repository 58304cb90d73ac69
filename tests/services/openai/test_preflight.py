"""What is refused before LoadGen starts: wrong URLs, models, keys, sick servers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pytest_mlperf.runner.runner import Runner
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint
from tests.support.service_doubles import MakeTask
from tests.support.service_doubles import read_refusal


def test_a_wrong_url_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """No server there, or one without a list of models."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    absent = read_refusal(runner, make_task([f"127.0.0.1:{port}"]))
    server = serve(pages={})
    other = read_refusal(runner, make_task([server.url]))

    assert f"127.0.0.1:{port}/health: nobody answers (Connection refused)" in absent
    assert "/v1/models: not there (404), but should list the models" in other


def test_what_is_no_http_server_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The port may speak another protocol."""
    server = serve(pages={"/health": b"SSH-2.0-OpenSSH\r\n\r\n"})
    text = read_refusal(runner, make_task([server.url]))

    assert "found no HTTP server" in text


def test_a_wrong_model_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The message lists the models and the nearest name."""
    pages = {
        **endpoint.PAGES,
        "/v1/models": endpoint.format_model_list("llama-8b", "llama-70b"),
    }
    server = serve(pages=pages)
    wrong = read_refusal(runner, make_task([server.url], model="lama-8b"))
    which = read_refusal(runner, make_task([server.url]))

    assert "it serves 'llama-8b', 'llama-70b'. Did you mean 'llama-8b'?" in wrong
    assert "say which is meant with --mlperf-endpoint-model" in which


def test_endpoints_that_serve_different_models_are_refused(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """They are not one system."""
    other = {**endpoint.PAGES, "/v1/models": endpoint.format_model_list("other")}
    one = serve()
    two = serve(pages=other)
    text = read_refusal(runner, make_task([one.url, two.url]))

    assert f"{two.url} does not serve the model 'm'" in text


def test_an_endpoint_that_is_not_healthy_is_refused(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Its health page shows it, or its test completion."""
    loading_pages = {
        **endpoint.PAGES,
        "/health": endpoint.format_page(503, "loading the model"),
    }
    server = serve(pages=loading_pages)
    loading = read_refusal(runner, make_task([server.url]))
    server = serve(endpoint.answer_status(500, "no memory"))
    failing = read_refusal(runner, make_task([server.url]))

    assert "found HTTP 503: loading the model, but should be 200" in loading
    assert "a test completion of 8 tokens failed" in failing
    assert "HTTP 500: no memory" in failing


def test_a_missing_or_wrong_key_is_found_before_the_run_and_never_shown(
    serve: ServeEndpoint,
    make_task: MakeTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the variable and not its value; with the right key all runs."""
    keys = {"RIGHT": "right", "WRONG": "wr0ng"}
    for name, value in keys.items():
        monkeypatch.setenv(f"OUR_{name}", value)
    monkeypatch.delenv("OUR_MISSING", raising=False)
    runner = Runner(stall_s=20, build_s=60)
    server = serve(key="right")
    refusals = {}
    for name in ("MISSING", "WRONG"):
        task = make_task([server.url], folder=name, token_env=f"OUR_{name}")
        refusals[name] = read_refusal(runner, task)
    task = make_task([server.url], folder="good", token_env="OUR_RIGHT")  # noqa: S106
    result = repr(runner.run(task))
    runner.close()
    written = b"".join(
        path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()
    )

    assert "HTTP 401: the endpoint wants a key" in refusals["MISSING"]
    assert "refuses the key in the environment variable OUR_WRONG" in refusals["WRONG"]
    assert "mean first token" in result
    shown = (*refusals.values(), result)
    assert not [text for text in shown if "wr0ng" in text or "Bearer" in text]
    assert b"Bearer" not in written


def refuse_word(word: bytes) -> endpoint.Behavior:
    """Return a behavior that refuses requests with a word, and answers others well."""

    def answer(send: endpoint.Sender, number: int) -> bool:
        if word in send.request:
            send(endpoint.format_page(400, f"no {word.decode()} here"))
            return True
        return endpoint.answer_well(send, number)

    return answer


def test_a_server_that_refuses_top_k_of_minus_one_gets_zero(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """TensorRT-LLM refuses the -1 of vLLM and SGLang."""
    server = serve(refuse_word(b'"top_k":-1'))
    spec = "tests.support.service_doubles:SAMPLED"
    runner.run(make_task([server.url], spec=spec))

    assert b'"top_k":0' in server.requests[-1]
    assert b'"min_tokens":2' in server.requests[-1]


def test_a_server_that_refuses_the_rules_fields_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The test completion holds the official lengths and sampling."""
    server = serve(refuse_word(b"min_tokens"))
    spec = "tests.support.service_doubles:SAMPLED"
    text = read_refusal(runner, make_task([server.url], spec=spec))

    assert "HTTP 400: no min_tokens here" in text
