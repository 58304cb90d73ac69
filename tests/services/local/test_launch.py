"""Servers that are started, waited for and ended; real processes, small ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_mlperf.services.local import launch
from pytest_mlperf.services.local.launch import Recipe
from pytest_mlperf.services.local.launch import Server
from pytest_mlperf.services.local.launch import ServerFailed
from pytest_mlperf.services.local.launch import launched
from pytest_mlperf.services.local.launch import warm_up

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
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if body == b"bad" else 200)
        self.end_headers()
        self.wfile.write(b"no such model")
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


def recipe(script: Path, how: str, ready_s: float = PATIENCE_S) -> Recipe:
    command = (sys.executable, str(script), "{port}", how)
    return Recipe(command, ready_s=ready_s, grace_s=0.3)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    """Return whether a process is gone within a while."""
    until = time.monotonic() + PATIENCE_S
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


def frees(port: int) -> bool:
    """Return whether a port is free within a while: its owner ends on its own time."""
    until = time.monotonic() + PATIENCE_S
    while not launch.is_free(port) and time.monotonic() < until:
        time.sleep(0.02)
    return launch.is_free(port)


def pid_in(log: Path, word: str) -> int:
    """Return the number that follows a word in a log, once it is there."""
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
    """It loads first (503); every look at it is a sign of life for the watchdog."""
    beats: list[None] = []
    made = recipe(script, "loads")
    with launched(made, tmp_path / "log", lambda: beats.append(None)) as server:
        assert server.health() == "200"
        port = server.port

    assert len(beats) >= 2
    assert launch.is_free(port)
    assert "hello from loads" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exits", r"ended with status 1(.|\n)*CUDA out of memory"),
        ("crashes", rf"ended with signal {signal.SIGABRT:d}"),
    ],
)
def test_a_server_that_ends_at_once_is_one_error_with_its_last_words(
    how: str, words: str, script: Path, tmp_path: Path
) -> None:
    """What it printed is the cause; the reader need not look for a file."""
    with (
        pytest.raises(ServerFailed, match=words),
        launched(recipe(script, how), tmp_path / "log"),
    ):
        pass


@pytest.mark.parametrize(("how", "said"), [("sick", "503"), ("sleeps", "refused")])
def test_a_server_that_never_becomes_healthy_is_given_up_and_ended(
    how: str, said: str, script: Path, tmp_path: Path
) -> None:
    """The error says what the health path answered; the process is gone."""
    with Server(recipe(script, how, ready_s=0.5), tmp_path / "log") as server:
        with pytest.raises(ServerFailed, match=rf"(?s)not healthy.*{said}.*hello"):
            server.wait_ready()
        port = server.port

    assert launch.is_free(port)


def test_a_server_that_is_lost_later_is_noticed(script: Path, tmp_path: Path) -> None:
    """Between two runs somebody asks whether it is still there."""
    lost = r"ended with status 3|does not answer 200"
    with launched(recipe(script, "dies"), tmp_path / "log") as server:
        look = iter(server.check_healthy, "never")
        with pytest.raises(ServerFailed, match=lost):
            list(look)


def test_a_port_that_is_taken_is_found_before_the_start(
    script: Path, tmp_path: Path
) -> None:
    """Otherwise the other's answers would be measured."""
    with launched(recipe(script, "first"), tmp_path / "log") as first:
        made = Recipe(("unused",), port=first.port)

        with pytest.raises(ServerFailed, match=f"port {first.port} is taken"):
            Server(made, tmp_path / "other")


def test_a_server_that_ignores_sigterm_is_killed(script: Path, tmp_path: Path) -> None:
    """After the grace, and its port with it."""
    with launched(recipe(script, "stubborn"), tmp_path / "log") as server:
        port = server.port

    assert launch.is_free(port)


def test_what_a_server_started_ends_with_it(script: Path, tmp_path: Path) -> None:
    """Workers hold GPUs; the whole process group goes."""
    with launched(recipe(script, "parent"), tmp_path / "log"):
        worker = pid_in(tmp_path / "log", "worker")
        assert is_alive(worker)

    assert ends(worker)


def test_a_server_dies_with_its_owner(script: Path, tmp_path: Path) -> None:
    """An owner that is killed cannot tidy up; server and workers go all the same."""
    log = tmp_path / "log"
    code = f"""
from pathlib import Path
from pytest_mlperf.services.local.launch import *
import os, sys
made = Recipe((sys.executable, {str(script)!r}, "{{port}}", "parent"), grace_s=0.3)
server = Server(made, Path({str(log)!r}))
server.wait_ready()
print(server.port, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    worker = pid_in(log, "worker")

    assert done.returncode == -signal.SIGKILL
    assert ends(worker)
    assert frees(int(done.stdout))


def test_a_command_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """A typing error in a system file is the commonest fault."""
    made = Recipe(("/no/such/trtllm-serve",))

    with (
        pytest.raises(ServerFailed, match=r"(?s)cannot run /no/such/trtllm-serve"),
        launched(made, tmp_path / "log"),
    ):
        pass


def test_names_in_the_command_are_filled_and_json_is_left_alone() -> None:
    """Servers take JSON as arguments."""
    made = Recipe(("serve", "--m={model}", "{devices}", '{"a": 1}'), "x.gguf", "0,1")

    assert made.filled(80) == ["serve", "--m=x.gguf", "0,1", '{"a": 1}']


def test_an_unknown_name_in_the_command_is_refused() -> None:
    """With the legal ones."""
    with pytest.raises(ValueError, match=r"\{modle\}.*\{port\}, \{model\}"):
        Recipe(("serve", "{modle}")).filled(80)


def test_warm_up_requests_reach_the_server_and_refusals_are_errors(
    script: Path, tmp_path: Path
) -> None:
    """A wrong model name is found before the timed run."""
    beats: list[None] = []
    with launched(recipe(script, "well"), tmp_path / "log") as server:
        bodies = [b"{}", b"{}"]
        warm_up(server, "/v1/completions", bodies, beat=lambda: beats.append(None))

        assert beats == [None, None]
        with pytest.raises(ServerFailed, match=r"request 1 .*HTTP 400.*no such model"):
            warm_up(server, "/v1/completions", [b"{}", b"bad"])


def test_a_restarted_server_quotes_its_own_words_alone(
    script: Path, tmp_path: Path
) -> None:
    """One log may hold several starts."""
    log = tmp_path / "log"
    log.write_text("an old error\n")

    with pytest.raises(ServerFailed) as caught, launched(recipe(script, "exits"), log):
        pass
    assert "an old error" not in str(caught.value)
    assert log.read_text().startswith("an old error\n")


def test_the_environment_reaches_the_server(tmp_path: Path) -> None:
    """Devices are often named there."""
    code = "import os; raise SystemExit(os.environ['DEVICES'] + os.environ['PATH'])"
    made = Recipe((sys.executable, "-c", code), environment={"DEVICES": "two "})

    with (
        pytest.raises(ServerFailed, match=f"two {os.environ['PATH'][:8]}"),
        launched(made, tmp_path / "log"),
    ):
        pass
