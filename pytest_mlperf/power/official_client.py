"""A power session whose client is mlcommons' own: ``client.py`` of a power-dev clone.

A submission has to be measured by it: the checker compares the sums of its sources.
It runs a command in each phase; ours (``workload``) waits while this process runs
LoadGen.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pytest_mlperf.power.client import LOGS
from pytest_mlperf.power.line_socket import PowerFailed
from pytest_mlperf.power.time_sync import NTP_PORT
from pytest_mlperf.power.time_sync import split_address
from pytest_mlperf.power.workload import DONE
from pytest_mlperf.power.workload import FAILED

SCRIPT = "ptd_client_server/client.py"
PHASE_S = 300.0
"""Until a phase has begun: clocks, the meter's start, its ranges."""
END_S = 120.0


def find_script(clone: Path) -> Path:
    """Return client.py of a clone of mlcommons/power-dev; ``PowerFailed`` if none."""
    for path in (clone / SCRIPT, clone / "client.py"):
        if path.is_file():
            return path.resolve()
    raise PowerFailed(
        f"{clone} has no {SCRIPT}; give a clone of mlcommons/power-dev with "
        "--mlperf-power-client DIR"
    )


class OfficialClient:
    """One session; used as ``PowerClient`` is. Raises ``PowerFailed``."""

    def __init__(
        self,
        clone: Path,
        address: tuple[str, int],
        ntp: str,
        folder: Path,
        label: str = "",
    ) -> None:
        host, port = split_address(ntp, NTP_PORT)
        if port != NTP_PORT:
            raise PowerFailed(
                f"mlcommons' client asks NTP servers at port {NTP_PORT} alone, and "
                f"{ntp} has another; name one without a port"
            )
        self._script, self._address, self._ntp = find_script(clone), address, host
        self._folder, self._label = folder, label
        self._line: socket.socket | None = None

    def __enter__(self) -> Self:
        self._scratch = tempfile.TemporaryDirectory(prefix="mlperf-power-")
        home = Path(self._scratch.name)
        self._staging, self._output = home / "loadgen", home / "client.out"
        self._staging.mkdir()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(home / "s"))
        self._listener.listen()
        self._listener.settimeout(0.5)
        module = f"{__name__.rpartition('.')[0]}.workload"
        workload = shlex.join([sys.executable, "-m", module, str(home / "s")])
        host, port = self._address
        words = [
            "-a", host, "-p", str(port), "-n", self._ntp, "-w", workload,
            "-L", str(self._staging), "-o", str(self._folder), "-T", "-l", self._label,
        ]  # fmt: skip
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(self._script), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.close()
        self._listener.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._scratch.cleanup()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure while the block runs LoadGen once: ``ranging``, then ``testing``."""
        self._line = self._wait_for_workload(name)
        answer = FAILED
        try:
            yield
            answer = DONE
        finally:
            with self._line as line:
                line.sendall(f"{answer}\n".encode())
            self._line = None

    def keep_logs(self, phase: str, logs: Path) -> None:
        """Put a run's logs where the client looks for them; within the phase."""
        folder = self._staging / phase
        folder.mkdir(exist_ok=True)
        for name in LOGS:
            shutil.copyfile(logs / name, folder / name)

    def finish(self) -> Path:
        """Wait until the client has fetched the director's files."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            raise PowerFailed(
                f"mlcommons' client has not ended {END_S:g} s after the last run: "
                f"{self._tell()}"
            ) from None
        if status or not (self._folder / "power" / "client.json").is_file():
            raise PowerFailed(
                f"mlcommons' client ended with status {status}: {self._tell()}"
            )
        return self._folder

    def _wait_for_workload(self, phase: str) -> socket.socket:
        give_up = time.monotonic() + PHASE_S
        while time.monotonic() < give_up:
            try:
                line, _ = self._listener.accept()
            except TimeoutError:
                status = self._process.poll()
                if status is None:
                    continue
                raise PowerFailed(
                    f"mlcommons' client ended with status {status} before {phase}: "
                    f"{self._tell()}"
                ) from None
            return line
        raise PowerFailed(
            f"mlcommons' client did not begin {phase} within {PHASE_S:g} s: "
            f"{self._tell()}"
        )

    def _tell(self) -> str:
        """Return the last lines that the client printed, in one."""
        lines = self._output.read_text("utf-8", errors="replace").splitlines()
        return " | ".join(line for line in lines[-4:] if line.strip()) or "no output"
