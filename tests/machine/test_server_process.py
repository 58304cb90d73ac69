"""Servers of ours: real small processes that are started, waited for and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_mlperf.api.embedded_server import ServerRecipe
from pytest_mlperf.machine.ports import is_port_free
from pytest_mlperf.machine.server_process import LocalServer
from pytest_mlperf.machine.server_process import ServerFailed
from pytest_mlperf.machine.server_process import start_server
from tests.support.processes import await_end
from tests.support.processes import is_alive

SERVER = """
import http.server, os, signal, subprocess, sys, time
port, how = int(sys.argv[1]), sys.argv[2]
print("hello from", how, sys.argv[3:], flush=True)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "exits":
    sys.exit("CUDA out of memory")
if how == "crashes":
    os.abort()
if how == "parent":
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("worker", worker.pid, flush=True)
if how == "sleeps":
    time.sleep(600)
asked = 0
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        loading = how == "loads" and asked < 3
        self.send_response(503 if loading or how == "sick" else 200)
        self.end_headers()
        if how == "dies" and asked == 2:
            os._exit(3)
    def log_message(self, *parts):
        print("asked", self.path, flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
PATIENCE_S = 20.0


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "server.py"
    path.write_text(textwrap.dedent(SERVER), encoding="utf-8")
    return path


def recipe_for(script: Path, how: str, ready_s: float = PATIENCE_S) -> ServerRecipe:
    command = (sys.executable, str(script), "{port}", how)
    return ServerRecipe(command, ready_s=ready_s, grace_s=0.3)


def wait_free(port: int) -> bool:
    """Return whether a port becomes free within ``PATIENCE_S``."""
    until = time.monotonic() + PATIENCE_S
    while not is_port_free(port) and time.monotonic() < until:
        time.sleep(0.02)
    return is_port_free(port)


def read_pid(log: Path, word: str) -> int:
    """Return the number after a word in a log; waits until it is written."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        words = log.read_text().split() if log.exists() else []
        if word in words[:-1]:
            return int(words[words.index(word) + 1])
        time.sleep(0.02)
    raise AssertionError(f"no {word} in {log}")


def test_a_server_is_waited_for_and_its_port_is_free_afterwards(
    script: Path, tmp_path: Path
) -> None:
    """It answers 503 while it loads; the watchdog sees a beat at every request."""
    beats: list[None] = []
    recipe = recipe_for(script, "loads")
    with start_server(recipe, tmp_path / "log", lambda: beats.append(None)) as server:
        assert server.health() == "200"
        port = server.port

    assert len(beats) >= 2
    assert is_port_free(port)
    assert "hello from loads" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exits", r"ended with status 1(.|\n)*CUDA out of memory"),
        ("crashes", r"ended with SIGABRT"),
    ],
)
def test_a_server_that_ends_at_once_is_one_error_with_its_last_words(
    how: str, words: str, script: Path, tmp_path: Path
) -> None:
    """The error shows what the server printed; nobody has to open the log."""
    with (
        pytest.raises(ServerFailed, match=words),
        start_server(recipe_for(script, how), tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(("how", "status"), [("sick", "503"), ("sleeps", "refused")])
def test_a_server_that_never_becomes_healthy_is_ended(
    how: str, status: str, script: Path, tmp_path: Path
) -> None:
    """The error shows what the health path answered."""
    log = tmp_path / "log"
    with LocalServer(recipe_for(script, how, ready_s=0.5), log) as server:
        until = time.monotonic() + PATIENCE_S
        while status not in server.health() or "hello" not in log.read_text("utf-8"):
            assert time.monotonic() < until, log.read_text("utf-8")
            time.sleep(0.02)
        with pytest.raises(ServerFailed, match=rf"(?s)not healthy.*{status}.*hello"):
            server.wait_ready()
        port = server.port

    assert is_port_free(port)


def test_a_server_that_is_lost_later_is_noticed(script: Path, tmp_path: Path) -> None:
    """Between two runs the server is checked again."""
    lost = r"ended with status 3|does not answer 200"
    with start_server(recipe_for(script, "dies"), tmp_path / "log") as server:
        checks = iter(server.check_healthy, "never")
        with pytest.raises(ServerFailed, match=lost):
            list(checks)


def test_a_port_that_is_taken_is_found_before_the_start(
    script: Path, tmp_path: Path
) -> None:
    """Otherwise the other server would be measured."""
    with start_server(recipe_for(script, "first"), tmp_path / "log") as first:
        recipe = ServerRecipe(("unused",), port=first.port)

        with pytest.raises(ServerFailed, match=f"port {first.port} is taken"):
            LocalServer(recipe, tmp_path / "other")


def test_a_server_that_ignores_sigterm_is_killed(script: Path, tmp_path: Path) -> None:
    """After the grace; its port is free then."""
    with start_server(recipe_for(script, "stubborn"), tmp_path / "log") as server:
        port = server.port

    assert is_port_free(port)


def test_what_a_server_started_ends_with_it(script: Path, tmp_path: Path) -> None:
    """Workers hold GPUs, so the whole process group ends."""
    with start_server(recipe_for(script, "parent"), tmp_path / "log"):
        worker = read_pid(tmp_path / "log", "worker")
        assert is_alive(worker)

    await_end(worker)


def test_a_server_dies_with_its_owner(script: Path, tmp_path: Path) -> None:
    """Server and workers end even when their owner is killed."""
    log = tmp_path / "log"
    code = f"""
from pathlib import Path
from pytest_mlperf.machine.server_process import *
import os, sys
command = (sys.executable, {str(script)!r}, "{{port}}", "parent")
recipe = ServerRecipe(command, grace_s=0.3)
server = start_server(recipe, Path({str(log)!r}))
print(server.port, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    worker = read_pid(log, "worker")

    assert done.returncode == -signal.SIGKILL
    await_end(worker)
    assert wait_free(int(done.stdout))


def test_a_command_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """A mistyped program in a system file is the commonest fault."""
    recipe = ServerRecipe(("/no/such/trtllm-serve",))

    with (
        pytest.raises(ServerFailed, match=r"(?s)cannot run /no/such/trtllm-serve"),
        start_server(recipe, tmp_path / "log"),
    ):
        pass


def test_names_in_the_command_are_filled_and_json_is_unchanged() -> None:
    """Servers take JSON as arguments."""
    recipe = ServerRecipe(
        ("serve", "--m={model}", "{devices}", '{"a": 1}'), "x.gguf", "0,1"
    )

    assert recipe.fill_command(80) == ["serve", "--m=x.gguf", "0,1", '{"a": 1}']


def test_an_unknown_name_in_the_command_is_refused() -> None:
    """The error lists the legal names."""
    with pytest.raises(ValueError, match=r"\{modle\}.*\{port\}, \{model\}"):
        ServerRecipe(("serve", "{modle}")).fill_command(80)


def test_a_restarted_server_shows_its_own_output_only(
    script: Path, tmp_path: Path
) -> None:
    """One log may hold the output of several starts."""
    log = tmp_path / "log"
    log.write_text("an old error\n")

    with (
        pytest.raises(ServerFailed) as caught,
        start_server(recipe_for(script, "exits"), log),
    ):
        pass
    assert "an old error" not in str(caught.value)
    assert log.read_text().startswith("an old error\n")


def test_the_environment_reaches_the_server(tmp_path: Path) -> None:
    """Devices are often chosen there."""
    code = "import os; raise SystemExit(os.environ['DEVICES'] + os.environ['PATH'])"
    recipe = ServerRecipe((sys.executable, "-c", code), environment={"DEVICES": "two "})

    with (
        pytest.raises(ServerFailed, match=f"two {os.environ['PATH'][:8]}"),
        start_server(recipe, tmp_path / "log"),
    ):
        pass
