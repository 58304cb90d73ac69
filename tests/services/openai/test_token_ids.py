"""Token ids: how each kind of server is asked for them, and what needs them."""

from __future__ import annotations

import json

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.compliance.test06 import read_consistency
from pytest_mlperf.core.types import Mode
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import ServiceTuned
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint
from tests.support.service_doubles import MakeTask


def answer_with_ids(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Answer with three tokens and their ids."""
    ids = enumerate("abc", 5)
    send(endpoint.format_stream(*({"text": t, "token_ids": [i]} for i, t in ids)))
    return True


def test_test06_runs_where_a_server_sends_token_ids(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """First token, end of sequence and length are in the log as int32."""
    tuned = ServiceTuned(4, target_qps=200.0)
    server = serve(answer_with_ids)
    task = make_task([server.url], mode=Mode.COMPLIANCE, audit="TEST06", tuned=tuned)
    texts = runner.run(task).facts.to_texts()
    found = read_consistency(task.folder, streamed=True)

    assert texts["token ids"] == "yes"
    assert found.entries > 50
    assert (found.first_token, found.several_eos, found.length) == (None, None, None)
    assert b"return_token_ids" in server.requests[-1]


def test_test06_is_skipped_where_a_server_sends_no_token_ids(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Text alone proves nothing about tokens."""
    server = serve()
    task = make_task(
        [server.url], mode=Mode.COMPLIANCE, audit="TEST06",
        tuned=ServiceTuned(4, target_qps=50.0),
    )  # fmt: skip
    with pytest.raises(RequirementMissing, match="TEST06 looks at token ids"):
        runner.run(task)


def test_a_server_that_refuses_the_ids_field_is_asked_without_it(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Strict servers refuse a field that they do not know; runs work without it."""

    def strict(send: endpoint.Sender, number: int) -> bool:
        if b"return_token_ids" in send.request:
            send(endpoint.format_page(400, json.dumps({"error": "unknown field"})))
            return True
        return endpoint.answer_well(send, number)

    server = serve(strict)
    texts = runner.run(make_task([server.url])).facts.to_texts()

    assert texts["token ids"] == "no, text alone"


def answer_with_logprobs(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Answer like llama.cpp: ids only with probabilities."""
    wants_ids = b"logprobs" in send.request
    choices: list[dict[str, object]] = []
    for token_id, text in enumerate("abc", 5):
        logprobs = {"content": [{"id": token_id}]} if wants_ids else None
        choices.append({"text": text, "logprobs": logprobs})
    send(endpoint.format_stream(*choices))
    return True


def test_ids_are_asked_for_with_probabilities(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """llama.cpp sends them in no other way."""
    server = serve(answer_with_logprobs)
    texts = runner.run(make_task([server.url])).facts.to_texts()

    assert texts["token ids"] == "yes"
    assert b"logprobs" in server.requests[-1]
    assert b"return_token_ids" not in server.requests[-1]


def answer_with_ids_alone(send: endpoint.Sender, number: int) -> bool:
    """Answer like trtllm-serve: ids instead of text, and no unknown field."""
    if b"return_token_ids" in send.request or b"post_sampling" in send.request:
        send(endpoint.format_page(400, "extra inputs are not permitted"))
        return True
    if b'"detokenize":false' not in send.request:
        return endpoint.answer_well(send, number)
    choices = [{"text": "", "token_ids": [token_id]} for token_id in (5, 6, 7)]
    send(endpoint.format_stream(*choices))
    return True


def test_ids_are_asked_for_instead_of_text(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The first id is the first token; TEST06 runs on them."""
    tuned = ServiceTuned(4, target_qps=200.0)
    server = serve(answer_with_ids_alone)
    task = make_task([server.url], mode=Mode.COMPLIANCE, audit="TEST06", tuned=tuned)
    texts = runner.run(task).facts.to_texts()
    found = read_consistency(task.folder, streamed=True)

    assert texts["token ids"] == "yes"
    assert (found.first_token, found.several_eos, found.length) == (None, None, None)


def test_accuracy_asks_for_no_ids_where_no_tokenizer_is(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The answers' text is scored."""
    server = serve(answer_with_logprobs)
    spec = "tests.support.service_doubles:WORDS"
    runner.run(make_task([server.url], mode=Mode.ACCURACY, spec=spec))

    assert b"logprobs" not in server.requests[-1]
