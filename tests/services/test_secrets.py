"""Whatever a server repeats of its key: no message and no file shows any of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.session_results import Record
from pytest_mlperf.machine import log_file
from pytest_mlperf.reporting.results import ResultsWriter
from pytest_mlperf.runner.messages import ServerSpec
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from pytest_mlperf.runner.service_secrets import hide_secrets
from pytest_mlperf.sut.tuned_load import ServiceTuned
from tests.support import endpoint_double as endpoint
from tests.support.endpoint_double import ServeEndpoint
from tests.support.service_doubles import MakeTask
from tests.support.service_doubles import judge_run

VARIABLE = "OUR_ENDPOINT"
KEY = "Kf7-0123456789-abcdefghij-XYZ"
SHORTEST = 5
"""Characters of the key in a row that would be a leak."""
ERROR = endpoint.format_event({"error": {"message": f"no quota for {KEY}"}})
CUT = "p" * 285 + KEY
"""A message shows the first 300 characters of it."""
IN_THE_RUN = 6
"""Requests that are answered well before."""


@pytest.fixture
def keyed_runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Runner]:
    """A runner whose environment has the key, under a name that tells nobody."""
    monkeypatch.setenv(VARIABLE, KEY)
    runner = Runner(stall_s=60, build_s=120, log=tmp_path / "runner.log")
    yield runner
    runner.close()


def find_leaks(text: str) -> set[str]:
    """Return what a text shows of the key."""
    count = len(KEY) - SHORTEST + 1
    return {g for i in range(count) if (g := KEY[i : i + SHORTEST]) in text}


def find_leaks_below(folder: Path) -> dict[str, set[str]]:
    """Return what files show of the key."""
    texts = {
        str(path): path.read_bytes().decode("utf-8", "replace")
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {path: leaks for path, text in texts.items() if (leaks := find_leaks(text))}


def page(path: str, reply: bytes) -> dict[str, Any]:
    return {"pages": {**endpoint.PAGES, path: reply}}


def answer(behavior: endpoint.Behavior, first: int = 0) -> dict[str, Any]:
    return {"behavior": endpoint.answer_well_until(first, behavior)}


ECHOES = {
    "health": {"pages": {"/health": endpoint.format_page(503, CUT[100:])}},
    "models": page("/v1/models", endpoint.format_model_list(f"m-{KEY}", "n")),
    "no models": page("/v1/models", endpoint.format_page(500, KEY)),
    "401": answer(endpoint.answer_status(401, f"unknown {KEY}")),
    "500 in the run": answer(endpoint.answer_status(500, CUT), IN_THE_RUN),
    "an error event": answer(endpoint.send_parts(endpoint.START, ERROR), IN_THE_RUN),
    "no JSON": answer(
        endpoint.send_parts(endpoint.START, endpoint.format_event(CUT[220:]))
    ),
    "no HTTP": answer(endpoint.send_parts(f"{CUT[240:]}\r\n\r\n".encode())),
}


@pytest.mark.parametrize("name", list(ECHOES))
def test_an_error_that_repeats_the_key_is_shown_without_it(
    keyed_runner: Runner,
    serve: ServeEndpoint,
    make_task: MakeTask,
    tmp_path: Path,
    name: str,
) -> None:
    """Before the run and in it; also where the message cuts the server's words."""
    task = make_task([serve(**ECHOES[name]).url], token_env=VARIABLE)
    with pytest.raises(RunFailed) as caught:
        keyed_runner.run(task)
    keyed_runner.close()

    assert not find_leaks(str(caught.value))
    assert "$" in caught.value.cause
    assert find_leaks_below(tmp_path) == {}


def test_a_model_named_like_the_key_runs_and_is_not_shown(
    keyed_runner: Runner, serve: ServeEndpoint, make_task: MakeTask, tmp_path: Path
) -> None:
    """Requests need the true name; verdict and results file do not."""
    models = page("/v1/models", endpoint.format_model_list(f"m-{KEY}"))
    server = serve(**models)
    task = make_task([server.url], token_env=VARIABLE)
    assert task.service is not None
    hide_secrets(task.service)  # as the planner does in pytest's process
    verdict = judge_run(task, keyed_runner.run(task))
    writer = ResultsWriter(tmp_path / "results.jsonl")
    writer.open({"args": ["--api-key", KEY], "system": {"name": KEY}})
    writer.add(Record("a", "passed", {"mode": "performance"}, verdict, f"for {KEY}"))

    assert f"m-{KEY}".encode() in server.requests[-1]
    assert verdict.facts["model served"] == f"m-${VARIABLE}"
    assert find_leaks_below(tmp_path) == {}


TALKER = """
import sys, time
sys.path.insert(0, {root!r})
from tests.support.endpoint_double import *
print("started with", sys.argv[1:], flush=True)
echo = answer_status(500, "you sent " + sys.argv[3])
with serve_endpoint(answer_well_until(40, echo), port=int(sys.argv[1])):
    time.sleep(600)
"""


def test_a_literal_key_in_a_servers_command_is_shown_nowhere(
    runner: Runner, make_task: MakeTask, tmp_path: Path
) -> None:
    """Neither in what the server answers and prints, nor in the facts of a run."""
    script = tmp_path / "server.py"
    script.write_text(TALKER.format(root=str(Path(__file__).parents[2])))
    command = (sys.executable, str(script), "{port}", "--api-key", KEY)
    task = make_task([], server=ServerSpec(command, ready_s=120, grace_s=2))
    with pytest.raises(RunFailed, match=r"500: you sent \*\*\*") as caught:
        runner.run(task)
    runner.close()
    log_file.close_logs(tmp_path)

    assert not find_leaks(str(caught.value))
    assert "started with" in (task.folder / "server.log").read_text()
    assert find_leaks_below(tmp_path) == {}


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (f"{KEY}\nsecond-line-of-it", "character 30 of 47 is a line break"),
        (f"{KEY}€", "character 30 of 30 is not a visible character of ASCII"),
    ],
)
def test_a_token_that_no_header_can_hold_is_refused_without_showing_it(
    runner: Runner,
    serve: ServeEndpoint,
    make_task: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    problem: str,
) -> None:
    """The message names the variable and the place."""
    runner.close()  # a child has the environment that it was started with
    monkeypatch.setenv(VARIABLE, key)
    task = make_task([serve().url], token_env=VARIABLE)
    with pytest.raises(RunFailed) as caught:
        runner.run(task)
    runner.close()

    assert f"variable {VARIABLE} holds no usable token: {problem}" in caught.value.cause
    assert not find_leaks(str(caught.value))
    assert "second" not in str(caught.value)


def test_what_is_missing_is_said_without_the_key(
    keyed_runner: Runner, make_task: MakeTask, serve: ServeEndpoint
) -> None:
    """A skip is a message like any other: nothing of the address's key is in it."""
    task = make_task(
        [serve().url], token_env=VARIABLE, audit="TEST06", tuned=ServiceTuned(8)
    )
    with pytest.raises(RequirementMissing) as caught:
        keyed_runner.run(task)

    assert not find_leaks(str(caught.value))
