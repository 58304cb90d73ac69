"""LoadGen runs against real small servers, well-behaved and faulty, in the runner."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core import rounds
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.run.server import lock_endpoints
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.sut.tuned_load import ServiceTuned
from tests.support import endpoint_double as endpoint
from tests.support import service_doubles as doubles
from tests.support.endpoint_double import ServeEndpoint
from tests.support.service_doubles import MakeTask
from tests.support.service_doubles import judge_run
from tests.support.service_doubles import rule_for

SERVED = (Scenario.SERVER, Scenario.INTERACTIVE)
SCENARIOS = (Scenario.SINGLE_STREAM, Scenario.OFFLINE, *SERVED)


def failed_checks(verdict: Verdict) -> set[str]:
    bad = (Status.FAIL, Status.ERROR)
    return {check.name for check in verdict.checks if check.status in bad}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_has_the_rounds_token_limits_and_is_judged_by_them(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask, scenario: Scenario
) -> None:
    """LoadGen's log shows them; Interactive runs as Server with its own limits."""
    server = serve()
    # The double answers a stream in 0.2 ms.
    tuning = Tuning(target_qps=600, expected_latency_ms=0.1)
    task = make_task([server.url], scenario, tuning=tuning)
    result = runner.run(task)
    verdict, log = judge_run(task, result), Log.read(task.folder)
    texts = result.facts.to_texts()
    conf = (task.folder / "user.conf").read_text()

    # Half a second proves no percentile, three tokens are a short answer, and a busy
    # machine may be late.
    assert failed_checks(verdict) <= {
        "early_stopping", "latency_bound", "loadgen_validity", "metric_present",
        "min_duration",
    }, verdict.explain()  # fmt: skip
    assert scenario.loadgen == log.text("effective_scenario")
    assert log.flag("requested_use_token_latencies")
    if scenario in SERVED:
        assert task.rule.ttft_ns == log.integer("requested_server_ttft_latency")
        assert task.rule.tpot_ns == log.integer("requested_server_tpot_latency")
        assert log.integer("result_first_token_99.00_percentile_latency_ns") > 0
    if scenario is Scenario.INTERACTIVE:
        assert "llama3_1-8b-interactive.Server." in conf
        assert (task.rule.ttft_ns, task.rule.tpot_ns) == (500_000_000, 30_000_000)
    assert {"requests", "tokens", "mean first token"} <= {
        name.removeprefix("endpoint ") for name in texts
    } or scenario is Scenario.OFFLINE
    assert server.url.removeprefix("http://") in texts["endpoints"]


def test_interactive_is_valid_when_it_is_long_enough(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """A second and a half at 400 queries a second prove the percentile."""
    server = serve()
    tuning = Tuning(target_qps=400)
    # Seconds: a busy machine must not decide what this is about.
    rule = replace(rule_for(Scenario.INTERACTIVE), ttft_ns=10**10, tpot_ns=5 * 10**9)
    task = make_task([server.url], seconds=1.5, tuning=tuning, rule=rule)
    verdict = judge_run(task, runner.run(task))

    assert verdict.valid, verdict.explain()
    assert verdict.metric is not None
    assert verdict.metric.unit == "tokens/s"
    assert verdict.tpot is not None
    assert verdict.tpot_limit is not None
    assert 5000 == verdict.tpot_limit.value > verdict.tpot.value


def test_an_accuracy_run_is_scored_from_loadgens_log(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """All 64 answers are in it, each for its own sample."""
    server = serve()
    task = make_task([server.url], Scenario.OFFLINE, Mode.ACCURACY)
    result = runner.run(task)
    verdict = judge_run(task, result)

    assert verdict.valid, verdict.explain()
    assert result.metrics["rouge1"] == 100.0


def test_two_endpoints_are_one_system_with_figures_of_each(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Round robin shares the requests, and the facts show each share."""
    one = serve()
    two = serve()
    task = make_task([one.url, two.url], Scenario.OFFLINE, balance="round")
    facts = runner.run(task).facts.to_texts()
    shares = [facts[f"endpoint {url} requests"] for url in (one.url, two.url)]

    counts = [int(text.partition(" of ")[0]) for text in shares]
    assert abs(counts[0] - counts[1]) <= 1
    assert min(counts) > 10


def drop_request(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Read the request, wait, and close: as a server that sheds load does."""
    time.sleep(0.1)
    return False


FAULTS: list[tuple[str, endpoint.Behavior, str]] = [
    ("HTTP 429", endpoint.answer_status(429, "slow down"), "HTTP 429: slow down"),
    (
        "HTTP 500",
        endpoint.answer_status(500, "out of memory"),
        "HTTP 500: out of memory",
    ),
    (
        "closes early",
        endpoint.send_parts(endpoint.START, endpoint.format_token("a")),
        "closed the connection in the middle",
    ),
    ("refuses", endpoint.send_parts(b""), "the server closed the connection"),
    ("stalls", endpoint.stall, "nothing came for 0.3 s"),
    (
        "malformed",
        endpoint.send_parts(endpoint.START, endpoint.format_chunk(b"nonsense\n\n")),
        "its body begins with 'nonsense",
    ),
    ("drops", drop_request, "the server closed the connection before the answer"),
    (
        "empty choices",
        endpoint.send_parts(
            endpoint.START,
            endpoint.format_event({"choices": []}),
            endpoint.END,
            keep=True,
        ),
        "no event of an answer",
    ),
    (
        "too many tokens",
        endpoint.send_parts(
            endpoint.START,
            endpoint.format_token("a"),
            endpoint.format_event({"choices": [], "usage": {"completion_tokens": 99}}),
            endpoint.END,
            keep=True,
        ),
        "99 tokens, but max_tokens allows 8",
    ),
    (
        "no token",
        endpoint.send_parts(
            endpoint.START,
            endpoint.format_event({"choices": [], "usage": {"completion_tokens": 0}}),
            endpoint.END,
            keep=True,
        ),
        "without a token",
    ),
]


@pytest.mark.parametrize(
    ("behavior", "found"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
def test_a_fault_in_the_run_is_one_failure_with_endpoint_request_and_time(
    runner: Runner,
    serve: ServeEndpoint,
    make_task: MakeTask,
    behavior: endpoint.Behavior,
    found: str,
) -> None:
    """The run ends, its folder is marked partial, and no traceback hides the cause."""
    server = serve(endpoint.answer_well_until(endpoint.ANSWERED_WELL, behavior))
    # Short only where it has to pass: a busy machine may pause in an answer.
    task = make_task([server.url], stall_s=0.3 if behavior is endpoint.stall else 60)
    with pytest.raises(RunFailed) as caught:
        runner.run(task)
    text = str(caught.value)

    assert found in text
    assert "the run failed in phase run" in text
    assert re.search(
        rf"{re.escape(server.url)}: request for sample \d+ failed after [\d.]+ s", text
    )
    assert "Traceback" not in text
    assert (task.folder / "PARTIAL.json").is_file()


def test_a_whole_answer_that_takes_long_is_no_hang(
    serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Offline's last and longest answer may come minutes after the others."""

    def slow(send: endpoint.Sender, number: int) -> bool:
        if not send.streams and number > endpoint.ANSWERED_WELL:
            time.sleep(3)
        return endpoint.answer_well(send, number)

    runner = Runner(stall_s=2, build_s=60)
    server = serve(slow)
    tuned = ServiceTuned(64, target_qps=50.0)
    task = make_task([server.url], Scenario.OFFLINE, tuned=tuned)
    texts = runner.run(task).facts.to_texts()
    runner.close()

    assert texts["streamed"] == "no, whole answers"
    assert "endpoint tokens" in texts
    assert "endpoint mean first token" not in texts


def test_after_a_failed_run_the_next_one_is_fine(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """LoadGen cannot be aborted, so its process ends with a failed run."""
    bad = endpoint.answer_well_until(
        endpoint.ANSWERED_WELL, endpoint.answer_status(500, "oops")
    )
    server = serve(bad)
    with pytest.raises(RunFailed):
        runner.run(make_task([server.url], folder="bad"))
    server = serve()
    texts = runner.run(make_task([server.url], folder="good")).facts.to_texts()

    assert texts["endpoints"] == server.url


def close_unannounced(send: endpoint.Sender, number: int) -> bool:
    """Close after each answer without a word of it in the answer, but with its bytes:
    a busy machine might close later than the preflight looks.
    """
    send.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    endpoint.answer_well(send, number)
    send.sock.shutdown(socket.SHUT_WR)
    return False


def test_a_server_that_closes_after_each_answer_gets_a_connection_a_request(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """As llama.cpp's does; a request on the old one would race with its end."""
    server = serve(close_unannounced)
    result = runner.run(make_task([server.url], Scenario.SINGLE_STREAM))

    assert "one a request" in result.facts.texts["connections"]
    assert result.facts.resent == 0
    assert result.facts.requests > 64
    assert b"\r\nConnection: close\r\n" in server.requests[-1]


def answer_one_token(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Answer with a single token."""
    usage = endpoint.format_event({"choices": [], "usage": {"completion_tokens": 1}})
    send(endpoint.START + endpoint.format_token("a") + usage + endpoint.END)
    return True


@pytest.mark.parametrize("scenario", [Scenario.INTERACTIVE, Scenario.SINGLE_STREAM])
def test_an_answer_of_one_token_makes_the_run_invalid(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask, scenario: Scenario
) -> None:
    """Without a second token there is no time per token, and LoadGen logs an error.

    Every check that fails of it names this cause, and no time below nothing is shown.
    """
    server = serve(answer_one_token)
    task = make_task([server.url], scenario)
    verdict = judge_run(task, runner.run(task))
    text = verdict.explain()

    assert not verdict.valid
    assert {"no_errors", "metric_present"} <= failed_checks(verdict), text
    assert not re.search(r"(?<![\w.])-\d", text), text
    assert text.count("have the server answer two tokens at least") >= 2


def answer_without_text(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
    """Answer with three tokens that have no text."""
    send(endpoint.format_stream({"text": ""}))
    return True


def test_an_answer_without_text_is_no_error(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """LoadGen would read a first token's time that it was never given."""
    server = serve(endpoint.answer_well_until(1, answer_without_text))
    task = make_task([server.url], tuning=Tuning(target_qps=400))
    verdict = judge_run(task, runner.run(task))

    assert "no_errors" not in failed_checks(verdict), verdict.explain()
    assert verdict.at_percentile is not None
    assert verdict.at_percentile.value > 0


def test_accuracy_that_cannot_be_judged_is_skipped_before_any_request(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The suite runs no programs that a model wrote, and passes no metric unjudged."""
    server = serve()
    spec = "tests.support.service_doubles:UNJUDGED"
    task = make_task([server.url], mode=Mode.ACCURACY, spec=spec)
    with pytest.raises(RequirementMissing, match="ROUGE1: it is a program"):
        runner.run(task)

    assert server.requests == []


def test_test07_skips_with_the_reason(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Its questions come from the accuracy set."""
    rule = rounds.get("v6.1").find("gpt-oss-120b", "", Scenario.SERVER)
    server = serve()
    task = make_task(
        [server.url], Scenario.SERVER, Mode.COMPLIANCE, audit="TEST07",
        rule=rule, tuned=ServiceTuned(4, target_qps=50.0),
    )  # fmt: skip
    with pytest.raises(RequirementMissing, match="TEST07 asks the accuracy set"):
        runner.run(task)


def answer_slowly(send: endpoint.Sender, number: int) -> bool:
    """Answer in about 15 ms."""
    time.sleep(0.015)
    return endpoint.answer_well(send, number)


PROBED = (Scenario.SINGLE_STREAM, Scenario.OFFLINE, Scenario.INTERACTIVE)


@pytest.mark.parametrize("scenario", PROBED)
def test_the_probe_finds_what_the_user_does_not_give(
    runner: Runner,
    serve: ServeEndpoint,
    make_task: MakeTask,
    tmp_path: Path,
    scenario: Scenario,
) -> None:
    """Rate or latency; an accuracy run afterwards uses the same tuning, and asks faster
    where little load was kept.
    """
    server = serve(answer_slowly)
    task = make_task([server.url], scenario, tuning=Tuning(), concurrency=4)
    result = runner.run(task)
    folder = tmp_path / "accuracy"
    scored = runner.run(replace(task, mode=Mode.ACCURACY, folder=folder))
    tuning = json.loads((task.folder / "tuning.json").read_text())
    settings = result.settings

    if scenario is Scenario.SINGLE_STREAM:
        assert settings.expected_latency_ns is not None
        assert 5e6 < settings.expected_latency_ns < 10e9
    else:
        assert settings.target_qps is not None
        assert 1 < settings.target_qps < 4 / 0.015 * 1.2
    texts = [result.facts.to_texts() for result in (result, scored)]
    assert [text["tuning"] for text in texts] == [tuning["note"]] * 2
    assert (scored.settings.target_qps or 0) >= (settings.target_qps or 0)


def test_two_runs_do_not_share_an_endpoint(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Workers take turns; otherwise each would measure the other's load."""
    server = serve()
    task = make_task([server.url], Scenario.OFFLINE, seconds=0.1)
    waiting = threading.Thread(target=runner.run, args=(task,), daemon=True)
    with lock_endpoints([server.url], task.cache, lambda: None):
        waiting.start()
        time.sleep(1.5)
        requests_before = len(server.requests)
    waiting.join(60)

    assert requests_before == 0
    assert len(server.requests) > 0


def test_chat_requests_are_conversations(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """Path and body of the requests are those of chat completions."""

    def answer_chat(send: endpoint.Sender, number: int) -> bool:  # noqa: ARG001
        deltas = ({"index": 0, "delta": {"content": text}} for text in "abc")
        send(endpoint.format_stream(*deltas))
        return True

    server = serve(answer_chat)
    texts = runner.run(make_task([server.url], chat=True)).facts.to_texts()

    assert texts["interface"] == "chat completions"
    assert all(r.startswith(b"POST /v1/chat/completions ") for r in server.requests)
    assert b'"messages"' in server.requests[-1]


def test_the_limits_of_a_rule_reach_loadgen(
    runner: Runner, serve: ServeEndpoint, make_task: MakeTask
) -> None:
    """The log shows the rule's limits, not the ones compiled into LoadGen."""
    rule = doubles.rule_for(Scenario.SERVER)
    rule = replace(rule, ttft_ns=1_234_000_000, tpot_ns=77_000_000)
    server = serve()
    task = make_task([server.url], Scenario.SERVER, rule=rule)
    runner.run(task)
    log = Log.read(task.folder)

    assert log.integer("requested_server_ttft_latency") == 1_234_000_000
    assert log.integer("requested_server_tpot_latency") == 77_000_000
