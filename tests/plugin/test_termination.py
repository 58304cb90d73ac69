"""Signals that end a session: SIGTERM and SIGHUP as Ctrl-C does, however often."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mlperf.plugin.termination import SessionTerminated
from pytest_mlperf.plugin.termination import TerminationSignals
from pytest_mlperf.runner.runner import PARTIAL
from tests.support import doubles
from tests.support.newest import read_newest
from tests.support.processes import is_alive
from tests.support.processes import list_descendants
from tests.support.service_doubles import ENTRY_POINT

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120
CHOSEN = "performance and resnet50 and (offline or server)"
SERVER = """
import http.server, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "m"}]}')
    def do_POST(self):
        open(sys.argv[2], "w").close()
        time.sleep(600)

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
pytestmark = pytest.mark.usefixtures("bounded")


@contextmanager
def session(
    reports: Path, *arguments: str, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """A real session on the real suites, in a session of processes of its own."""
    command = [sys.executable, "-m", "pytest", str(ROOT / "suites")]
    command += ["-p", "no:cacheprovider", "--mlperf-duration", "1"]
    command += ["--mlperf-reports", str(reports), "--mlperf-target-qps", "1000"]
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdout=stdout, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def await_that(
    process: subprocess.Popen[str], question: Callable[[], object], what: str
) -> None:
    """Wait for something that a session does before it ends."""

    def is_so() -> object:
        assert process.poll() is None, process.stdout and process.stdout.read()
        return question()

    doubles.await_true(is_so, what)


@contextmanager
def reading(terminal: int) -> Iterator[None]:
    """Read what is printed, as a terminal does: its buffer of 4 kB would be full soon,
    and a session waits until it can print.
    """
    over = threading.Event()

    def drain() -> None:
        while not over.is_set():
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 1 << 16)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def await_run(process: subprocess.Popen[str], reports: Path) -> None:
    """Wait until LoadGen has begun."""
    pattern = "2*/logs/*/performance/mlperf_log_detail.txt"
    await_that(process, lambda: [*reports.glob(pattern)], "LoadGen's start")


def read_cause(reports: Path) -> str:
    """Return why the session's one run did not end."""
    (note,) = reports.glob(f"2*/logs/*/*/{PARTIAL}")
    return str(json.loads(note.read_text())["cause"])


def await_gone(pids: list[int]) -> None:
    doubles.await_true(lambda: not any(map(is_alive, pids)), "the children's end")


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Let programs hear SIGHUP where whoever started this one had it ignored: nohup
    does.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_up")
def test_a_terminal_that_is_closed_loses_nothing(tmp_path: Path) -> None:
    """The hang-up comes, and nothing more can be printed: the file is whole."""
    ours, theirs = pty.openpty()
    engine = ("--mlperf-engine", doubles.spec("SLEEPING"), "-k", CHOSEN)
    with session(tmp_path, *engine, stdout=theirs) as process:
        os.close(theirs)
        with reading(ours):
            await_run(process, tmp_path)
        below = list_descendants(process.pid)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        process.wait(LIMIT_S)

    await_gone(below)
    assert read_newest(tmp_path).is_interrupted
    assert read_cause(tmp_path) == "interrupted by SIGHUP"


def test_workers_end_like_their_controller(tmp_path: Path) -> None:
    """The signal comes to every process, as Slurm sends it."""
    engine = ("--mlperf-engine", doubles.spec("SLEEPING"), "-n", "2")
    with session(tmp_path, *engine, "-k", CHOSEN) as process:
        await_run(process, tmp_path)
        below = list_descendants(process.pid)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=LIMIT_S)

    await_gone(below)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert read_newest(tmp_path).is_interrupted
    assert read_cause(tmp_path) == "interrupted by SIGTERM"


def test_a_worker_ends_with_a_controller_that_is_killed(tmp_path: Path) -> None:
    """The run is noted as partial, also where a shell's ``&`` had SIGINT ignored:
    execnet's signal to a worker that is left alone.
    """
    engine = ("--mlperf-engine", doubles.spec("SLEEPING"), "-n", "1")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with session(tmp_path, *engine, "-k", CHOSEN) as process:
            await_run(process, tmp_path)
            below = list_descendants(process.pid)
            process.kill()
    finally:
        signal.signal(signal.SIGINT, before)

    await_gone(below)
    assert read_cause(tmp_path) == "interrupted by SIGTERM"


COLLECTING = """
import os, time
from pathlib import Path
import pytest

if os.environ.get("PYTEST_XDIST_WORKER"):
    Path("PLACE", os.environ["PYTEST_XDIST_WORKER"]).touch()
    time.sleep(600)

@pytest.mark.mlperf(mode="performance")
def test_performance(cell): ...
"""


def test_workers_that_still_collect_end_with_their_controller(tmp_path: Path) -> None:
    """Nobody knows yet what is to run: the reports folder is not left behind."""
    place, reports = tmp_path / "place", tmp_path / "reports"
    place.mkdir()
    suite = tmp_path / "test_suite.py"
    suite.write_text(COLLECTING.replace("PLACE", str(place)))
    command = [sys.executable, "-m", "pytest", str(suite), "-n2", "-pno:cacheprovider"]
    with subprocess.Popen(
        [*command, "--mlperf-reports", str(reports)], cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            await_that(process, lambda: len([*place.iterdir()]) == 2, "the workers")
            below = list_descendants(process.pid)
            made = [*reports.iterdir()]
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()

    await_gone(below)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert "SIGTERM" in output
    assert len(made) == 1
    assert not reports.exists()


def test_sigterm_ends_a_session_like_ctrl_c(tmp_path: Path) -> None:
    """Closing line, table and the run's note are there; runner and server are gone,
    which is in a process group of its own.
    """
    (tmp_path / "server.py").write_text(SERVER)
    asked, reports = tmp_path / "asked", tmp_path / "reports"
    command = f"{sys.executable} {tmp_path}/server.py {{port}} {asked}"
    file = tmp_path / "served.toml"
    file.write_text(f'[server]\ncommand = "{command}"\nmodel = "m"\ngrace_s = 1\n')
    metadata = tmp_path / "asking-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asking\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    chosen = ("-k", "performance and llama3.1-8b-offline", "--mlperf-system", str(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        with session(reports, *chosen) as process:
            await_that(process, asked.exists, "a request")
            below = list_descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)  # as impatient people do
            output, _ = process.communicate(timeout=LIMIT_S)
    found = read_newest(reports)

    assert len(below) >= 2
    await_gone(below)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert found.is_interrupted
    assert found.exit_status == pytest.ExitCode.INTERRUPTED
    assert [record.outcome for record in found.records] == ["interrupted"]
    assert read_cause(reports) == "interrupted by SIGTERM"
    assert "partial: interrupted" in output
    assert "INTERNALERROR" not in output


def test_signals_that_somebody_handles_are_theirs() -> None:
    """``nohup`` ignores SIGHUP; a program around pytest may handle SIGTERM."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals = TerminationSignals()
        signals.catch()
        with pytest.raises(SessionTerminated, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the second is passed over
        ignored = signal.getsignal(signal.SIGHUP)
        signals.release()
    finally:
        signal.signal(signal.SIGHUP, before)

    assert ignored is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
