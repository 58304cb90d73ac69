"""The embedded LLM through LoadGen: its own server, really started and really slow."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.benchmarks.llama import LLAMA3_1_8B
from pytest_mlperf.benchmarks.llm.embedded import MAX_TOKENS
from pytest_mlperf.benchmarks.llm.embedded import open_embedded
from pytest_mlperf.core import compliance
from pytest_mlperf.core.tuning import Tuning
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import start_server
from pytest_mlperf.runner.messages import Task
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.services.local import llama
from pytest_mlperf.sut.tuned_load import ServiceTuned
from tests.support import service_doubles as doubles

pytestmark = pytest.mark.skipif(
    llama.unavailable() is not None, reason=llama.unavailable() or ""
)
HEAD = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's model is made, once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[LocalServer]:
    """The server as cells start it."""
    cpus = sorted(os.sched_getaffinity(0))
    recipe = llama.make_server_recipe("q8_0", cache, cpus)
    with start_server(recipe, cache / "log") as server:
        yield server


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """One child for the module: accuracy and compliance keep their server."""
    runner = Runner(stall_s=60, build_s=120)
    yield runner
    runner.close()


def asked(server: LocalServer, **fields: Any) -> dict[str, Any]:
    """Return the server's whole answer to the workload's first prompt."""
    workload = open_embedded()
    prompt = {"prompt": workload.prompt(0).text, "max_tokens": MAX_TOKENS}
    body = json.dumps({**prompt, "temperature": 0, **workload.sampling, **fields})
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("POST", "/v1/completions", body, HEAD)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


def test_the_same_prompt_is_evaluated_whole_each_time(server: LocalServer) -> None:
    """A cached prompt would make the second answer's first token a present."""
    found = [asked(server) for _ in range(3)]
    evaluated = [answer["timings"]["prompt_n"] for answer in found]
    prompts = [answer["usage"]["prompt_tokens"] for answer in found]

    assert prompts == evaluated
    assert evaluated[0] > 10
    assert [answer["timings"]["cache_n"] for answer in found] == [0, 0, 0]


def test_a_prompt_with_the_same_beginning_is_evaluated_whole(
    server: LocalServer,
) -> None:
    """All prompts begin with the same example."""
    workload = open_embedded()
    asked(server)
    answer = asked(server, prompt=workload.prompt(1).text)

    assert answer["usage"]["prompt_tokens"] == answer["timings"]["prompt_n"]


def test_every_answer_has_all_its_tokens_and_tells_their_ids(
    server: LocalServer,
) -> None:
    """So that each has a time per token, and TEST06 has something to compare."""
    answer = asked(server, logprobs=1, post_sampling_probs=True)
    (choice,) = answer["choices"]

    assert answer["usage"]["completion_tokens"] == MAX_TOKENS
    assert len([one["id"] for one in choice["logprobs"]["content"]]) == MAX_TOKENS
    assert choice["finish_reason"] == "length"


def make_task(
    folder: Path, cache: Path, scenario: Scenario, mode: Mode, **changes: Any
) -> Task:
    """Return a task of the embedded server, at its benchmark's precision."""
    task = doubles.make_task(
        folder, [], scenario, mode, tuning=Tuning(),
        spec="pytest_mlperf.benchmarks.llama:LLAMA3_1_8B", concurrency=None, **changes,
    )  # fmt: skip
    return replace(task, cache=cache, precision=LLAMA3_1_8B.precision(""))


def test_eight_bits_keep_the_rounds_share_of_the_references_accuracy(
    runner: Runner, tmp_path: Path, cache: Path
) -> None:
    """Five metrics of a hundred answers, by the official definitions."""
    task = make_task(tmp_path, cache, Scenario.OFFLINE, Mode.ACCURACY)
    result = runner.run(task)
    verdict = doubles.judge_run(task, result)

    assert verdict.valid, verdict.explain()
    judged = {c.name for c in verdict.checks if c.name.startswith("accuracy_")}
    metrics = {"ROUGE1", "ROUGE2", "ROUGEL", "ROUGELSUM", "GEN_LEN", "hash", "summary"}
    assert judged == {f"accuracy_{metric}" for metric in metrics}
    assert result.facts.to_texts()["precision"] == "q8_0"
    assert result.reference == open_embedded().reference


def test_test06_holds_for_the_embedded_server(
    runner: Runner, tmp_path: Path, cache: Path
) -> None:
    """First token, end of sequence and length of a hundred streamed answers."""
    task = make_task(
        tmp_path, cache, Scenario.INTERACTIVE, Mode.COMPLIANCE, audit="TEST06",
        tuned=ServiceTuned(4, target_qps=50.0),
    )  # fmt: skip
    verdict = doubles.judge_run(task, runner.run(task))
    audit = compliance.find("TEST06", task.rule)
    findings = compliance.verify(audit, task.rule, task.folder, {})
    checks = [check for finding in findings for check in finding.checks]

    assert verdict.valid, verdict.explain()
    assert [check.status for check in checks] == [Status.PASS] * 3, checks
    assert {check.found for check in checks} == {"100 answers"}


def test_a_stream_is_valid_and_its_tokens_are_shown_unjudged(
    pytester: pytest.Pytester,
) -> None:
    """From the command line to the table, with the probe and a server of its own."""
    root = Path(__file__).parents[3]
    result = pytester.runpytest_subprocess(
        str(root / "suites"), "-c", str(root / "pyproject.toml"),
        "-k", "llama3.1-8b-edge and singlestream and performance",
        "--mlperf-duration", "2", "--mlperf-reports", str(pytester.path / "reports"),
    )  # fmt: skip

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*llama3.1-8b-edge*", "*unjudged: TPOT p90 * ms, TTFT p90 * ms*tokens/s*"]
    )
