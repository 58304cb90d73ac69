"""``pytest-mlperf power serve`` as a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from pytest_mlperf.machine.ports import find_free_port
from pytest_mlperf.power.client import PowerClient
from pytest_mlperf.power.config import format_config
from tests.support.power_stand import make_config
from tests.support.power_stand import serve_ntp

LIMIT_S = 60
PROGRAM = "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
"""What the installed ``pytest-mlperf`` does."""


def wait_for(text: str, file: Path, program: subprocess.Popen[bytes]) -> None:
    """Return once a program's output has a text."""
    until = time.monotonic() + LIMIT_S
    while text not in file.read_text("utf-8"):
        assert program.poll() is None, file.read_text("utf-8")
        assert time.monotonic() < until, file.read_text("utf-8")
        time.sleep(0.02)


def test_the_command_serves_our_client_until_it_is_ended(tmp_path: Path) -> None:
    """It tries the clock and the meter, listens, and ends by SIGTERM. No phase is run:
    the command lets a meter settle for 10 s, four times a session.
    """
    output = tmp_path / "output"
    with serve_ntp() as ntp, output.open("wb") as stream:
        port = find_free_port()
        config = replace(make_config(tmp_path, ntp), listen=("127.0.0.1", port))
        file = tmp_path / "server.cfg"
        file.write_text(format_config(config), "utf-8")
        command = [sys.executable, "-c", PROGRAM, "power", "serve", str(file)]
        director = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        try:
            wait_for(f"listening at 127.0.0.1:{port}", output, director)
            with PowerClient("127.0.0.1", port, ntp, tmp_path / "session"):
                wait_for("127.0.0.1 connected", output, director)
            director.send_signal(signal.SIGTERM)
            status = director.wait(LIMIT_S)
        finally:
            director.kill()
            director.wait(LIMIT_S)
    lines = output.read_text("utf-8").splitlines()

    assert status == 128 + signal.SIGTERM
    assert lines[0].startswith("NTP: offset ")
    assert lines[1] == "analyzer1: YokogawaWT310"
    assert "Traceback" not in output.read_text("utf-8")
