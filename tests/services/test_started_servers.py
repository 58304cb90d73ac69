"""Servers that a run starts, keeps and ends; real processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.runner.messages import ServerSpec
from pytest_mlperf.runner.runner import RunFailed
from pytest_mlperf.runner.runner import Runner
from tests.support import endpoint_double as endpoint
from tests.support.service_doubles import MakeTask

SERVER = """
import sys
sys.path.insert(0, {root!r})
from tests.support.endpoint_double import *
import os, pathlib, time
started = pathlib.Path({mark!r})
with started.open("a") as file:
    file.write("started\\n")
def die_at(send, number):
    if number == {dies}:
        print("cuda error: device lost", flush=True)
        os._exit(3)
    return answer_well(send, number)
with serve_endpoint(die_at, port=int(sys.argv[1])):
    time.sleep(600)
"""


def server_spec(folder: Path, *, dies: int = -1, **fields: Any) -> ServerSpec:
    """Return how the double is started as a process; it dies at request ``dies``."""
    folder.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).parents[2])
    mark = str(folder / "starts.txt")
    script = folder / "server.py"
    script.write_text(SERVER.format(root=root, mark=mark, dies=dies))
    command = (sys.executable, str(script), "{port}")
    return ServerSpec(command, **{"ready_s": 120, "grace_s": 2, **fields})


def count_starts(folder: Path) -> int:
    return len((folder / "starts.txt").read_text().splitlines())


def test_a_started_server_is_fresh_for_performance_and_kept_for_accuracy(
    runner: Runner, make_task: MakeTask, tmp_path: Path
) -> None:
    """Performance, accuracy, performance: two starts, and the facts name both logs."""
    spec = server_spec(tmp_path)
    results = []
    for number, mode in enumerate([Mode.PERFORMANCE, Mode.ACCURACY, Mode.PERFORMANCE]):
        task = make_task(
            [], Scenario.OFFLINE, mode, folder=str(number), seconds=0.2, server=spec
        )
        results.append(runner.run(task))
        if number == 1:
            assert count_starts(tmp_path) == 1

    assert count_starts(tmp_path) == 2
    assert len({result.build for result in results}) == 1
    texts = [result.facts.to_texts() for result in results]
    first, second, third = (text["server log"] for text in texts)
    assert first == second
    assert first != third
    assert "GPU memory after the last server" in texts[2]


def test_a_server_that_dies_in_the_run_is_named_with_its_last_words(
    runner: Runner, make_task: MakeTask, tmp_path: Path
) -> None:
    """The next task gets a fresh server."""
    task = make_task([], server=server_spec(tmp_path, dies=endpoint.ANSWERED_WELL))
    with pytest.raises(RunFailed) as caught:
        runner.run(task)
    again = make_task([], folder="2", server=server_spec(tmp_path / "2"))
    texts = runner.run(again).facts.to_texts()

    text = str(caught.value)
    assert "request for sample" in text
    assert "the server ended with status 3" in text
    assert "cuda error: device lost" in text
    assert count_starts(tmp_path / "2") == 1
    assert texts["server log"].startswith(str(tmp_path / "2"))


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("no-such-program-here",), "cannot run no-such-program-here"),
        ((sys.executable, "-c", "print('no model'); exit(5)"), "no model"),
        (("serve", "{prt}"), "{prt} in the server's command"),
    ],
    ids=["no program", "ends", "unknown name"],
)
def test_a_server_that_does_not_start_is_found_before_the_run(
    runner: Runner,
    make_task: MakeTask,
    tmp_path: Path,
    command: tuple[str, ...],
    found: str,
) -> None:
    """The error shows the end of its log; the runner stays alive."""
    spec = ServerSpec(command, ready_s=120, grace_s=1)
    with pytest.raises(RunFailed) as caught:
        runner.run(make_task([], server=spec))

    assert found in str(caught.value)
    assert "phase server" in str(caught.value)
    assert not (tmp_path / "logs" / "mlperf_log_summary.txt").exists()


def test_a_key_in_a_started_servers_command_is_never_shown(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the facts of a good run, nor in the error of a bad one."""
    monkeypatch.setenv("OUR_KEY", "s3same")
    runner = Runner(stall_s=60, build_s=120)
    good = server_spec(tmp_path)
    good = replace(good, command=(*good.command, "--api-key", "s3same"))
    bad = ServerSpec(
        (sys.executable, "-c", "print('key s3same'); exit(5)"), ready_s=120
    )
    done = runner.run(make_task([], server=good, token_env="OUR_KEY"))  # noqa: S106
    with pytest.raises(RunFailed) as caught:
        runner.run(make_task([], folder="2", server=bad, token_env="OUR_KEY"))  # noqa: S106
    runner.close()

    assert done.facts.to_texts()["server"].endswith("--api-key $OUR_KEY")
    assert "s3same" not in repr(done)
    assert "key $OUR_KEY" in str(caught.value)
    assert "s3same" not in str(caught.value)


def test_no_server_at_all_is_a_skip_with_the_remedy(
    runner: Runner, make_task: MakeTask
) -> None:
    """No provider starts a server for an official model."""
    spec = "tests.support.service_doubles:OFFICIAL"
    with pytest.raises(RequirementMissing, match="--mlperf-endpoint URL"):
        runner.run(make_task([], spec=spec))
