"""Real LoadGen runs against real small servers, well-behaved and not, in the runner."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core import rounds
from pytest_mlperf.core.compliance.test06 import read_consistency
from pytest_mlperf.core.judge.judge import Context
from pytest_mlperf.core.judge.judge import judge
from pytest_mlperf.core.logs.log import Log
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from pytest_mlperf.run.server import held
from pytest_mlperf.runner.messages import RunResult
from pytest_mlperf.runner.messages import ServerSpec
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import service_doubles as doubles
from tests.support.endpoint_double import END
from tests.support.endpoint_double import PAGES
from tests.support.endpoint_double import START
from tests.support.endpoint_double import USAGE
from tests.support.endpoint_double import Behaviour
from tests.support.endpoint_double import Send
from tests.support.endpoint_double import after
from tests.support.endpoint_double import chunk
from tests.support.endpoint_double import event
from tests.support.endpoint_double import good
from tests.support.endpoint_double import listing
from tests.support.endpoint_double import page
from tests.support.endpoint_double import says
from tests.support.endpoint_double import serving
from tests.support.endpoint_double import stall
from tests.support.endpoint_double import status
from tests.support.endpoint_double import token

SERVED = (Scenario.SERVER, Scenario.INTERACTIVE)
SCENARIOS = (Scenario.SINGLE_STREAM, Scenario.OFFLINE, *SERVED)
WELL = 6
"""Requests that a faulty server answers well: the test completion, and some of a
run."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One child for the module, until a failed run takes it along."""
    runner = Runner(stall_s=20, build_s=60)
    yield runner
    runner.close()


def verdict_of(job: Task, done: RunResult) -> Verdict:
    """Judge a run as the measure fixture does."""
    context = Context(
        settings=done.settings,
        reference=dict(done.reference),
        waived=dict(done.settings.waived),
        build=done.build,
        dataset_total=done.dataset_total,
        facts=done.facts,
    )
    found = rounds.get("v6.1")
    return judge(Path(job.folder), job.cell, job.mode, job.rule, found, context)


def failed(verdict: Verdict) -> set[str]:
    bad = (Status.FAIL, Status.ERROR)
    return {check.name for check in verdict.checks if check.status in bad}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_has_the_rounds_token_limits_and_is_judged_by_them(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """LoadGen's own log shows them; Interactive drives Server with its own."""
    with serving() as server:
        # The double answers a stream in 0.2 ms.
        tuning = Tuning(target_qps=600, expected_latency_ms=0.1)
        job = doubles.job(tmp_path, [server.url], scenario, tuning=tuning)
        done = runner.run(job)
    verdict, log = verdict_of(job, done), Log.read(Path(job.folder))
    conf = (Path(job.folder) / "user.conf").read_text()

    # Half a second proves no percentile, and three tokens are no long answers.
    assert failed(verdict) <= {
        "early_stopping", "loadgen_validity", "metric_present", "min_duration",
    }, verdict.explain()  # fmt: skip
    assert scenario.loadgen == log.text("effective_scenario")
    assert log.flag("requested_use_token_latencies")
    if scenario in SERVED:
        assert job.rule.ttft_ns == log.integer("requested_server_ttft_latency")
        assert job.rule.tpot_ns == log.integer("requested_server_tpot_latency")
        assert log.integer("result_first_token_99.00_percentile_latency_ns") > 0
    if scenario is Scenario.INTERACTIVE:
        assert "llama3_1-8b-interactive.Server." in conf
        assert (job.rule.ttft_ns, job.rule.tpot_ns) == (500_000_000, 30_000_000)
    assert {"requests", "tokens", "mean first token"} <= {
        key.removeprefix("endpoint ") for key in done.facts
    } or scenario is Scenario.OFFLINE
    assert server.url.removeprefix("http://") in done.facts["endpoints"]


def test_interactive_is_valid_when_it_is_long_enough(
    runner: Runner, tmp_path: Path
) -> None:
    """A second and a half at 400 queries a second prove the percentile."""
    with serving() as server:
        tuning = Tuning(target_qps=400)
        job = doubles.job(tmp_path, [server.url], seconds=1.5, tuning=tuning)
        verdict = verdict_of(job, runner.run(job))

    assert verdict.valid, verdict.explain()
    assert verdict.metric is not None
    assert verdict.metric.unit == "tokens/s"
    assert verdict.tpot is not None
    assert verdict.tpot_limit is not None
    assert 30 == verdict.tpot_limit.value > verdict.tpot.value


def test_an_accuracy_run_is_scored_from_loadgens_log(
    runner: Runner, tmp_path: Path
) -> None:
    """All 64 answers are in it, each its own sample's."""
    with serving() as server:
        job = doubles.job(tmp_path, [server.url], Scenario.OFFLINE, Mode.ACCURACY)
        done = runner.run(job)
    verdict = verdict_of(job, done)

    assert verdict.valid, verdict.explain()
    assert done.metrics["rouge1"] == 100.0


def test_two_endpoints_are_one_system_with_figures_of_each(
    runner: Runner, tmp_path: Path
) -> None:
    """Round robin, and who did what is among the facts."""
    with serving() as one, serving() as two:
        job = doubles.job(
            tmp_path, [one.url, two.url], Scenario.OFFLINE, balance="round"
        )
        facts = runner.run(job).facts
    shares = [facts[f"endpoint {url} requests"] for url in (one.url, two.url)]

    counts = [int(text.partition(" of ")[0]) for text in shares]
    assert abs(counts[0] - counts[1]) <= 1
    assert min(counts) > 10


FAULTS: list[tuple[str, Behaviour, str]] = [
    ("HTTP 429", status(429, "slow down"), "HTTP 429: slow down"),
    ("HTTP 500", status(500, "out of memory"), "HTTP 500: out of memory"),
    ("closes early", says(START, token("a")), "closed the connection in the middle"),
    ("refuses", says(b""), "the server closed the connection"),
    ("stalls", stall, "nothing came for 0.3 s"),
    ("malformed", says(START, chunk(b"nonsense\n\n")), "malformed event stream"),
    ("empty choices", says(START, event({"choices": []})), "empty choices"),
    (
        "too many tokens",
        says(
            START,
            token("a"),
            event({"choices": [], "usage": {"completion_tokens": 99}}),
            END,
            keep=True,
        ),
        "99 tokens, but max_tokens allows 8",
    ),
    (
        "no token",
        says(
            START,
            event({"choices": [], "usage": {"completion_tokens": 0}}),
            END,
            keep=True,
        ),
        "without a token",
    ),
]


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
def test_a_fault_in_the_run_is_one_failure_with_endpoint_request_and_time(
    runner: Runner, tmp_path: Path, behaviour: Behaviour, found: str
) -> None:
    """The run ends, its folder says that it is partial, and no stacks hide why."""
    with serving(after(WELL, behaviour)) as server:
        job = doubles.job(tmp_path, [server.url], stall_s=0.3)
        with pytest.raises(RunFailed) as caught:
            runner.run(job)
    text = str(caught.value)

    assert found in text
    assert "the run failed in phase run" in text
    assert re.search(
        rf"{re.escape(server.url)}: request for sample \d+ failed after [\d.]+ s", text
    )
    assert "Traceback" not in text
    assert (Path(job.folder) / "PARTIAL.json").is_file()


def test_a_whole_answer_that_takes_long_is_no_hang(tmp_path: Path) -> None:
    """Offline's last and longest answer may come minutes after the others."""

    def slow(send: Send, number: int) -> bool:
        if not send.streams and number > WELL:
            time.sleep(2.5)
        return good(send, number)

    runner = Runner(stall_s=1, build_s=60)
    with serving(slow) as server:
        tuned = {"concurrency": 64, "target_qps": 50.0}
        job = doubles.job(tmp_path, [server.url], Scenario.OFFLINE, tuned=tuned)
        done = runner.run(job)
    runner.close()

    assert done.facts["streamed"] == "no, whole answers"
    assert "endpoint tokens" in done.facts
    assert "endpoint mean first token" not in done.facts


def test_after_a_failed_run_the_next_one_is_fine(
    runner: Runner, tmp_path: Path
) -> None:
    """LoadGen cannot be aborted: its process has gone with the failed run."""
    bad = after(WELL, status(500, "oops"))
    with serving(bad) as server, pytest.raises(RunFailed):
        runner.run(doubles.job(tmp_path / "bad", [server.url]))
    with serving() as server:
        done = runner.run(doubles.job(tmp_path / "good", [server.url]))

    assert done.facts["endpoints"] == server.url


SERVER = """
import sys
sys.path.insert(0, {root!r})
from tests.support.endpoint_double import *
import os, pathlib, time
started = pathlib.Path({mark!r})
with started.open("a") as file:
    file.write("started\\n")
def dying(send, number):
    if number == {dies}:
        print("cuda error: device lost", flush=True)
        os._exit(3)
    return good(send, number)
with serving(dying, port=int(sys.argv[1])):
    time.sleep(60)
"""


def server_wish(folder: Path, *, dies: int = -1, **fields: Any) -> ServerSpec:
    """Return how a double is started as a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).parents[2])
    mark = str(folder / "starts.txt")
    script = folder / "server.py"
    script.write_text(SERVER.format(root=root, mark=mark, dies=dies))
    command = (sys.executable, str(script), "{port}")
    return ServerSpec(command, **{"ready_s": 20, "grace_s": 2, **fields})


def starts(folder: Path) -> int:
    return len((folder / "starts.txt").read_text().splitlines())


def test_a_started_server_is_fresh_for_performance_and_kept_for_accuracy(
    runner: Runner, tmp_path: Path
) -> None:
    """Performance, accuracy, performance: two starts, and both logs are named."""
    wish = server_wish(tmp_path)
    made = []
    for number, mode in enumerate([Mode.PERFORMANCE, Mode.ACCURACY, Mode.PERFORMANCE]):
        job = doubles.job(
            tmp_path / str(number), [], Scenario.OFFLINE, mode, seconds=0.2, server=wish
        )
        made.append(runner.run(job))
        if number == 1:
            assert starts(tmp_path) == 1

    assert starts(tmp_path) == 2
    assert len({done.build for done in made}) == 1
    assert made[0].facts["server log"] == made[1].facts["server log"]
    assert made[0].facts["server log"] != made[2].facts["server log"]
    assert "GPU memory after the last server" in made[2].facts


def test_a_server_that_dies_in_the_run_is_named_with_its_last_words(
    runner: Runner, tmp_path: Path
) -> None:
    """And the next item gets a fresh one."""
    job = doubles.job(tmp_path, [], server=server_wish(tmp_path, dies=WELL))
    with pytest.raises(RunFailed) as caught:
        runner.run(job)
    again = doubles.job(tmp_path / "2", [], server=server_wish(tmp_path / "2"))
    done = runner.run(again)

    text = str(caught.value)
    assert "request for sample" in text
    assert "the server ended with status 3" in text
    assert "cuda error: device lost" in text
    assert starts(tmp_path / "2") == 1
    assert done.facts["server log"].startswith(str(tmp_path / "2"))


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("no-such-program-here",), "cannot run no-such-program-here"),
        ((sys.executable, "-c", "print('no model'); exit(5)"), "no model"),
        (("serve", "{prt}"), "{prt} in the server's command"),
    ],
    ids=["no program", "ends", "unknown name"],
)
def test_a_server_that_does_not_start_is_said_before_loadgen_starts(
    runner: Runner, tmp_path: Path, command: tuple[str, ...], found: str
) -> None:
    """With its last words; the runner lives on."""
    wish = ServerSpec(command, ready_s=20, grace_s=1)
    with pytest.raises(RunFailed) as caught:
        runner.run(doubles.job(tmp_path, [], server=wish))

    assert found in str(caught.value)
    assert "phase server" in str(caught.value)
    assert not (tmp_path / "logs" / "mlperf_log_summary.txt").exists()


def refused(runner: Runner, job: Task) -> str:
    """Return why a job is refused before the run; its runner lives on."""
    with pytest.raises(RunFailed) as caught:
        runner.run(job)
    assert "phase check" in str(caught.value)
    assert runner.pid is not None
    assert not (Path(job.folder) / "mlperf_log_detail.txt").exists()
    return str(caught.value)


def test_a_wrong_url_is_found_before_the_run(runner: Runner, tmp_path: Path) -> None:
    """Nobody there, or somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = refused(runner, doubles.job(tmp_path, [f"127.0.0.1:{port}"]))
    with serving(pages={}) as server:
        strange = refused(runner, doubles.job(tmp_path, [server.url]))

    assert f"127.0.0.1:{port}/health: nobody answers (Connection refused)" in nobody
    assert "/v1/models: not there (404), but should list the models" in strange


def test_what_is_no_http_server_is_found_before_the_run(
    runner: Runner, tmp_path: Path
) -> None:
    """A port that speaks something else."""
    with serving(pages={"/health": b"SSH-2.0-OpenSSH\r\n\r\n"}) as server:
        text = refused(runner, doubles.job(tmp_path, [server.url]))

    assert "found no HTTP server" in text


def test_a_wrong_model_is_found_before_the_run(runner: Runner, tmp_path: Path) -> None:
    """The message lists what is served, and the nearest name."""
    pages = {**PAGES, "/v1/models": listing("llama-8b", "llama-70b")}
    with serving(pages=pages) as server:
        wrong = refused(runner, doubles.job(tmp_path, [server.url], model="lama-8b"))
        which = refused(runner, doubles.job(tmp_path, [server.url]))

    assert "it serves 'llama-8b', 'llama-70b'. Did you mean 'llama-8b'?" in wrong
    assert "say which is meant with --mlperf-endpoint-model" in which


def test_endpoints_that_serve_different_models_are_refused(
    runner: Runner, tmp_path: Path
) -> None:
    """They would not be one system."""
    other = {**PAGES, "/v1/models": listing("other")}
    with serving() as one, serving(pages=other) as two:
        text = refused(runner, doubles.job(tmp_path, [one.url, two.url]))

    assert f"{two.url} does not serve the model 'm'" in text


def test_an_endpoint_that_is_not_well_is_refused(
    runner: Runner, tmp_path: Path
) -> None:
    """Its health says so, or its test completion does."""
    ill = {**PAGES, "/health": page(503, "loading the model")}
    with serving(pages=ill) as server:
        loading = refused(runner, doubles.job(tmp_path, [server.url]))
    with serving(status(500, "no memory")) as server:
        failing = refused(runner, doubles.job(tmp_path, [server.url]))

    assert "found HTTP 503: loading the model, but should be 200" in loading
    assert "a test completion of 8 tokens failed" in failing
    assert "HTTP 500: no memory" in failing


def test_a_missing_or_wrong_key_is_found_before_the_run_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is named, not what is in it; with the right one all is well."""
    keys = {"RIGHT": "right", "WRONG": "wr0ng"}
    for name, value in keys.items():
        monkeypatch.setenv(f"OUR_{name}", value)
    monkeypatch.delenv("OUR_MISSING", raising=False)
    runner = Runner(stall_s=20, build_s=60)
    with serving(key="right") as server:
        said = {}
        for name in ("MISSING", "WRONG"):
            job = doubles.job(tmp_path / name, [server.url], token_env=f"OUR_{name}")
            said[name] = refused(runner, job)
        job = doubles.job(tmp_path / "good", [server.url], token_env="OUR_RIGHT")  # noqa: S106
        good = repr(runner.run(job))
    runner.close()
    written = b"".join(
        path.read_bytes() for path in (tmp_path / "good").rglob("*") if path.is_file()
    )

    assert "HTTP 401: the endpoint wants a key" in said["MISSING"]
    assert "refuses the key in the environment variable OUR_WRONG" in said["WRONG"]
    assert "mean first token" in good
    assert not [s for s in (*said.values(), good) if "wr0ng" in s or "Bearer" in s]
    assert b"Bearer" not in written


def test_a_key_in_a_started_servers_command_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as a fact of a good run, nor in the last words of one that ends."""
    monkeypatch.setenv("OUR_KEY", "s3same")
    runner = Runner(stall_s=20, build_s=60)
    well = server_wish(tmp_path)
    well = replace(well, command=(*well.command, "--api-key", "s3same"))
    bad = ServerSpec((sys.executable, "-c", "print('key s3same'); exit(5)"), ready_s=20)
    done = runner.run(doubles.job(tmp_path, [], server=well, token_env="OUR_KEY"))  # noqa: S106
    with pytest.raises(RunFailed) as caught:
        runner.run(doubles.job(tmp_path / "2", [], server=bad, token_env="OUR_KEY"))  # noqa: S106
    runner.close()

    assert done.facts["server"].endswith("--api-key $OUR_KEY")
    assert "s3same" not in repr(done)
    assert "key $OUR_KEY" in str(caught.value)
    assert "s3same" not in str(caught.value)


def test_no_server_at_all_is_a_skip_with_the_remedy(
    runner: Runner, tmp_path: Path
) -> None:
    """An official model runs nowhere by itself."""
    spec = "tests.support.service_doubles:OFFICIAL"
    with pytest.raises(RequirementMissing, match="--mlperf-endpoint URL"):
        runner.run(doubles.job(tmp_path, [], spec=spec))


def one_token(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
    """Answer with a single token."""
    usage = event({"choices": [], "usage": {"completion_tokens": 1}})
    send(START + token("a") + usage + END)
    return True


def test_an_answer_of_one_token_makes_the_run_invalid(
    runner: Runner, tmp_path: Path
) -> None:
    """Without a second token there is no time per token: LoadGen logs an error."""
    with serving(one_token) as server:
        job = doubles.job(tmp_path, [server.url])
        verdict = verdict_of(job, runner.run(job))

    assert not verdict.valid
    assert "no_errors" in failed(verdict), verdict.explain()


def no_text(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
    """Answer with three tokens that have no text."""
    send(START + token("") + USAGE + END)
    return True


def test_an_answer_without_text_is_no_error(runner: Runner, tmp_path: Path) -> None:
    """LoadGen would read a first token's time that nobody told it."""
    with serving(no_text) as server:
        job = doubles.job(tmp_path, [server.url], tuning=Tuning(target_qps=400))
        verdict = verdict_of(job, runner.run(job))

    assert "no_errors" not in failed(verdict), verdict.explain()
    assert verdict.at_percentile is not None
    assert verdict.at_percentile.value > 0


def with_ids(send: Send, number: int) -> bool:
    """Answer with three tokens and their ids."""
    send(START)
    for number, text in enumerate("abc"):
        send(event({"choices": [{"text": text, "token_ids": [5 + number]}]}))
    send(USAGE + END)
    return True


def test_test06_runs_where_token_ids_are_told(runner: Runner, tmp_path: Path) -> None:
    """First token, end of sequence and length are in the log as int32."""
    tuned = {"concurrency": 4, "target_qps": 200.0}
    with serving(with_ids) as server:
        job = doubles.job(
            tmp_path, [server.url], mode=Mode.COMPLIANCE, audit="TEST06", tuned=tuned
        )
        done = runner.run(job)
    found = read_consistency(Path(job.folder), streamed=True)

    assert done.facts["token ids"] == "yes"
    assert found.entries > 50
    assert (found.first_token, found.ending, found.length) == (None, None, None)
    assert b"return_token_ids" in server.requests[-1]


def test_test06_is_skipped_where_no_token_ids_are_told(
    runner: Runner, tmp_path: Path
) -> None:
    """Text alone proves nothing about tokens."""
    with serving() as server:
        job = doubles.job(
            tmp_path, [server.url], mode=Mode.COMPLIANCE, audit="TEST06",
            tuned={"concurrency": 4, "target_qps": 50.0},
        )  # fmt: skip
        with pytest.raises(RequirementMissing, match="TEST06 looks at token ids"):
            runner.run(job)


def test_a_server_that_does_not_know_the_ids_field_is_asked_without(
    runner: Runner, tmp_path: Path
) -> None:
    """Strict servers refuse a field that they do not know; no run depends on it."""

    def strict(send: Send, number: int) -> bool:
        if b"return_token_ids" in send.request:
            send(page(400, json.dumps({"error": "unknown field"})))
            return True
        return good(send, number)

    with serving(strict) as server:
        done = runner.run(doubles.job(tmp_path, [server.url]))

    assert done.facts["token ids"] == "no, text alone"


def refusing(word: bytes) -> Behaviour:
    """Return what answers well but for requests that hold this."""

    def answer(send: Send, number: int) -> bool:
        if word in send.request:
            send(page(400, f"no {word.decode()} here"))
            return True
        return good(send, number)

    return answer


def test_a_server_with_another_word_for_no_top_k_is_asked_in_it(
    runner: Runner, tmp_path: Path
) -> None:
    """TensorRT-LLM refuses the -1 that vLLM and SGLang mean by it."""
    with serving(refusing(b'"top_k":-1')) as server:
        spec = "tests.support.service_doubles:SAMPLED"
        runner.run(doubles.job(tmp_path, [server.url], spec=spec))

    assert b'"top_k":0' in server.requests[-1]
    assert b'"min_tokens":2' in server.requests[-1]


def test_a_server_that_refuses_what_the_rules_want_is_found_before_the_run(
    runner: Runner, tmp_path: Path
) -> None:
    """The test completion holds the official lengths and sampling."""
    with serving(refusing(b"min_tokens")) as server:
        spec = "tests.support.service_doubles:SAMPLED"
        text = refused(runner, doubles.job(tmp_path, [server.url], spec=spec))

    assert "HTTP 400: no min_tokens here" in text


def beside(send: Send, number: int) -> bool:  # noqa: ARG001 - a Behaviour
    """Answer as llama.cpp does: ids only beside probabilities, and no other field."""
    told = b"logprobs" in send.request
    send(START)
    for token_id, text in enumerate("abc"):
        ids = {"logprobs": {"content": [{"id": 5 + token_id}]}} if told else {}
        send(event({"choices": [{"text": text, **ids}]}))
    send(USAGE + END)
    return True


def test_ids_beside_probabilities_are_asked_for_too(
    runner: Runner, tmp_path: Path
) -> None:
    """The second of the two ways in which servers tell them."""
    with serving(beside) as server:
        done = runner.run(doubles.job(tmp_path, [server.url]))

    assert done.facts["token ids"] == "yes"
    assert b"logprobs" in server.requests[-1]
    assert b"return_token_ids" not in server.requests[-1]


def instead(send: Send, number: int) -> bool:
    """Answer as trtllm-serve does: ids in the place of text, and no unknown field."""
    if b"return_token_ids" in send.request or b"post_sampling" in send.request:
        send(page(400, "extra inputs are not permitted"))
        return True
    if b'"detokenize":false' not in send.request:
        return good(send, number)
    send(START)
    for token_id in range(3):
        send(event({"choices": [{"text": "", "token_ids": [5 + token_id]}]}))
    send(USAGE + END)
    return True


def test_ids_in_the_place_of_text_are_asked_for_too(
    runner: Runner, tmp_path: Path
) -> None:
    """The first of them is the first token; TEST06 runs on them."""
    tuned = {"concurrency": 4, "target_qps": 200.0}
    with serving(instead) as server:
        job = doubles.job(
            tmp_path, [server.url], mode=Mode.COMPLIANCE, audit="TEST06", tuned=tuned
        )
        done = runner.run(job)
    found = read_consistency(Path(job.folder), streamed=True)

    assert done.facts["token ids"] == "yes"
    assert (found.first_token, found.ending, found.length) == (None, None, None)


def test_ids_that_nothing_makes_text_of_are_not_asked_for_in_accuracy(
    runner: Runner, tmp_path: Path
) -> None:
    """The text comes anyway, and can be scored."""
    with serving(beside) as server:
        spec = "tests.support.service_doubles:WORDS"
        runner.run(doubles.job(tmp_path, [server.url], mode=Mode.ACCURACY, spec=spec))

    assert b"logprobs" not in server.requests[-1]


def test_accuracy_that_cannot_be_judged_here_skips_before_anything_is_asked(
    runner: Runner, tmp_path: Path
) -> None:
    """Programs that a model wrote are not run; nor is the metric passed over."""
    with serving() as server:
        spec = "tests.support.service_doubles:UNJUDGED"
        job = doubles.job(tmp_path, [server.url], mode=Mode.ACCURACY, spec=spec)
        with pytest.raises(RequirementMissing, match="ROUGE1: it is a program"):
            runner.run(job)

    assert server.requests == []


def test_test07_skips_with_the_reason(runner: Runner, tmp_path: Path) -> None:
    """Its questions are the accuracy set's."""
    rule = rounds.get("v6.1").find("gpt-oss-120b", "", Scenario.SERVER)
    with serving() as server:
        job = doubles.job(
            tmp_path, [server.url], Scenario.SERVER, Mode.COMPLIANCE, audit="TEST07",
            rule=rule, tuned={"concurrency": 4, "target_qps": 50.0},
        )  # fmt: skip
        with pytest.raises(RequirementMissing, match="TEST07 asks the accuracy set"):
            runner.run(job)


def slowly(send: Send, number: int) -> bool:
    """Answer in about 15 ms."""
    time.sleep(0.015)
    return good(send, number)


PROBED = (Scenario.SINGLE_STREAM, Scenario.OFFLINE, Scenario.INTERACTIVE)


@pytest.mark.parametrize("scenario", PROBED)
def test_what_nobody_gives_is_found_by_the_probe(
    runner: Runner, tmp_path: Path, scenario: Scenario
) -> None:
    """Rate or latency; an accuracy run after it asks as the performance run did."""
    with serving(slowly) as server:
        job = doubles.job(
            tmp_path, [server.url], scenario, tuning=Tuning(), concurrency=4
        )
        done = runner.run(job)
        folder = str(tmp_path / "accuracy")
        scored = runner.run(replace(job, mode=Mode.ACCURACY, folder=folder))
    tuning = json.loads((Path(job.folder) / "tuning.json").read_text())
    settings = done.settings

    if scenario is Scenario.SINGLE_STREAM:
        assert settings.expected_latency_ns is not None
        assert 5e6 < settings.expected_latency_ns < 100e6
    else:
        assert settings.target_qps is not None
        assert 10 < settings.target_qps < 4 / 0.015 * 1.2
    assert tuning["note"] == done.facts["tuning"] == scored.facts["tuning"]
    assert settings.target_qps == scored.settings.target_qps


def test_two_runs_do_not_share_an_endpoint(runner: Runner, tmp_path: Path) -> None:
    """Workers take turns: each would measure the other's load."""
    with serving() as server:
        job = doubles.job(tmp_path, [server.url], Scenario.OFFLINE, seconds=0.1)
        waiting = threading.Thread(target=runner.run, args=(job,), daemon=True)
        with held([server.url], Path(job.cache), lambda: None):
            waiting.start()
            time.sleep(1.5)
            while_held = len(server.requests)
        waiting.join(60)

    assert while_held == 0
    assert len(server.requests) > 0


def test_chat_is_asked_as_chat(runner: Runner, tmp_path: Path) -> None:
    """The path and the shape of the request are a conversation's."""

    def chatting(send: Send, number: int) -> bool:  # noqa: ARG001 - one shape
        send(START)
        for text in "abc":
            send(event({"choices": [{"index": 0, "delta": {"content": text}}]}))
        send(USAGE + END)
        return True

    with serving(chatting) as server:
        done = runner.run(doubles.job(tmp_path, [server.url], chat=True))

    assert done.facts["interface"] == "chat completions"
    assert all(r.startswith(b"POST /v1/chat/completions ") for r in server.requests)
    assert b'"messages"' in server.requests[-1]


def test_the_settings_of_another_rounds_limits_reach_loadgen(
    runner: Runner, tmp_path: Path
) -> None:
    """Not what LoadGen has compiled in: a bound of our own is in the log."""
    rule = doubles.rule_for(Scenario.SERVER)
    rule = replace(rule, ttft_ns=1_234_000_000, tpot_ns=77_000_000)
    with serving() as server:
        job = doubles.job(tmp_path, [server.url], Scenario.SERVER, rule=rule)
        runner.run(job)
    log = Log.read(Path(job.folder))

    assert log.integer("requested_server_ttft_latency") == 1_234_000_000
    assert log.integer("requested_server_tpot_latency") == 77_000_000
