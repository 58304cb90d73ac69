"""The comparison's servers end with it: a small server stands in for the other's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import doubles
from tests.support.processes import is_alive

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import os, socket, sys, time
port = int(sys.argv[sys.argv.index("--port") + 1])
listener = socket.create_server(("127.0.0.1", port))
worker = os.fork()
if worker == 0:
    os.setsid()
    time.sleep(600)
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {worker}")
os.rename("pids.new", "pids")
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.usefixtures("bounded")
def test_the_servers_end_with_the_comparison(
    tmp_path: Path, number: signal.Signals
) -> None:
    """However it is ended: workers in sessions of their own end too."""
    module = tmp_path / "inference_endpoint" / "testing" / "max_throughput_server.py"
    module.parent.mkdir(parents=True)
    module.write_text(SERVER)
    pids = tmp_path / "pids"
    with subprocess.Popen(
        [sys.executable, "scripts/compare_clients.py", sys.executable, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as comparison:
        doubles.await_true(pids.exists, "the server's start")
        started = [int(word) for word in pids.read_text().split()]
        assert all(map(is_alive, started))
        comparison.send_signal(number)

    doubles.await_true(
        lambda: not any(map(is_alive, started)), "the end of the server's tree"
    )
