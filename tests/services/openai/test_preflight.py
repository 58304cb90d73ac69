"""What is refused before LoadGen starts: wrong URLs, models, keys, sick servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.runner.runner import Runner
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint
from tests.support.service_doubles import MakeTask
from tests.support.service_doubles import judge_run
from tests.support.service_doubles import read_refusal


def test_a_wrong_url_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """No server there, or one without a list of models."""
    port = find_free_port()
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


def test_a_proxy_that_speaks_http_2_alone_is_told(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Its first frame has settings; no byte of it goes to the terminal."""
    frame = bytes.fromhex("00000604000000000000050000ffff") + b"\r\n\r\n"
    server = serve(pages={"/health": frame})
    text = read_refusal(runner, make_task([server.url]))

    assert "/health: the server, or a proxy before it, speaks HTTP/2 alone" in text
    assert "\x04" not in text


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


LOADING = endpoint.format_page(503, "loading the model")
MODELS = endpoint.PAGES["/v1/models"]


def test_an_endpoint_that_is_not_healthy_is_refused(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Its health page shows it where nothing else does, or its test completion."""
    server = serve(pages={"/health": LOADING})
    loading = read_refusal(runner, make_task([server.url]))
    server = serve(endpoint.answer_status(500, "no memory"))
    failing = read_refusal(runner, make_task([server.url]))

    assert "found HTTP 503: loading the model, but should be 200" in loading
    assert "name its health page with --mlperf-endpoint-health PATH" in loading
    assert "a test completion failed" in failing
    assert "HTTP 500: no memory" in failing


def test_a_server_that_loads_its_model_is_to_be_waited_for(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Every page of llama.cpp and vLLM says 503 then, and the URL is right."""
    server = serve(pages={"/health": LOADING, "/v1/models": LOADING})
    text = read_refusal(runner, make_task([server.url]))

    assert "/v1/models: found HTTP 503: loading the model, but should be a list" in text
    assert "wait until the server has loaded its model" in text
    assert "correct the URL" not in text


@pytest.mark.parametrize("health", [LOADING, None], ids=["503", "404"])
def test_a_list_of_models_is_enough_where_nobody_named_a_health_page(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask, health: bytes | None
) -> None:
    """Behind a gateway the page is another's, or not there; the facts say so."""
    pages = {"/health": health} if health else {}
    server = serve(pages={"/v1/models": MODELS, **pages})
    texts = runner.run(make_task([server.url])).facts.to_texts()

    assert texts[f"health of {server.url}"].startswith("/health: HTTP ")


def test_a_health_page_that_the_user_names_has_to_answer(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The option is for servers whose page has another path."""
    pages = {"/v1/models": MODELS, "/health": LOADING}
    server = serve(pages={**pages, "/ready": endpoint.format_page(200, "")})
    texts = runner.run(make_task([server.url], health="/ready")).facts.to_texts()
    absent = read_refusal(runner, make_task([server.url], folder="no", health="/up"))

    assert f"health of {server.url}" not in texts
    assert f"{server.url}/up: found HTTP 404: no such page, but should be 200" in absent


def test_a_redirect_is_shown_and_not_followed(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The key would go to another server."""
    moved = (
        b"HTTP/1.1 307 Is\r\nLocation: http://other:8/v1\r\nContent-Length: 0\r\n\r\n"
    )
    server = serve(pages={**endpoint.PAGES, "/v1/models": moved})
    listed = read_refusal(runner, make_task([server.url]))
    server = serve(endpoint.send_parts(moved, keep=True))
    asked = read_refusal(runner, make_task([server.url]))

    assert "found HTTP 307 to http://other:8/v1" in listed
    assert "HTTP 307 to http://other:8/v1, but redirects are not followed" in asked


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
    runner = Runner(stall_s=60, build_s=120)
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


@pytest.mark.parametrize(
    "refusal",
    ["unknown field {}", '{{"detail":[{{"loc":["body","{}"]}}]}}', "bad request"],
)
def test_an_optional_field_that_a_server_refuses_is_left_out_and_waived(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask, refusal: str
) -> None:
    """Whether its words name the field or not; the others stay."""

    def answer(send: endpoint.Sender, number: int) -> bool:
        if b"min_tokens" in send.request:
            send(endpoint.format_page(422, refusal.format("min_tokens")))
            return True
        return endpoint.answer_well(send, number)

    server = serve(answer)
    spec = "tests.support.service_doubles:SAMPLED"
    task = make_task([server.url], spec=spec)
    verdict = judge_run(task, runner.run(task))
    (check,) = [c for c in verdict.waived if c.name == "request_fields"]

    assert check.found == "requests without min_tokens"
    assert b'"top_k":' in server.requests[-1]
    assert b"continuous_usage_stats" in server.requests[-1]
    assert b"min_tokens" not in server.requests[-1]


@pytest.mark.parametrize("word", [b"continuous_usage_stats", b"stream_options"])
def test_a_server_that_refuses_to_count_as_it_goes_is_asked_without(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask, word: bytes
) -> None:
    """That is no rule's: a fact tells of it, and nothing is waived."""
    server = serve(refuse_word(word))
    result = runner.run(make_task([server.url]))

    assert result.facts.refused_fields == ()
    assert "is refused" in result.facts.texts["tokens counted"]
    assert word not in server.requests[-1]


def test_a_server_that_refuses_everything_is_found_before_the_run(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """What every server takes is not left out, and the server's words are shown."""
    server = serve(refuse_word(b"temperature"))
    spec = "tests.support.service_doubles:SAMPLED"
    text = read_refusal(runner, make_task([server.url], spec=spec))

    assert "HTTP 400: no temperature here" in text


def test_tokens_without_text_and_ids_are_no_answer(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """A server that calls tools, or whose parser holds all text back."""
    calls = [{"index": 0, "function": {"arguments": "{"}}]
    parts = [{"delta": {"role": "assistant", "content": None, "tool_calls": calls}}]
    server = serve(
        endpoint.send_parts(endpoint.format_stream(*parts, *parts), keep=True)
    )
    text = read_refusal(runner, make_task([server.url], chat=True))

    assert "3 tokens, but without text and without token ids" in text


def test_chat_answers_to_completions_are_no_answers(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """A gateway that maps one path to the other: every text would be empty."""
    parts = [{"delta": {"content": text}} for text in "abc"]
    server = serve(endpoint.send_parts(endpoint.format_stream(*parts), keep=True))
    text = read_refusal(runner, make_task([server.url]))

    assert "a choice of a conversation, but should be a completion's text" in text
