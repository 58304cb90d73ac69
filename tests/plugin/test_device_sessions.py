"""Whole sessions that ask something of the device: options, verdicts, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.machine.lease import FOLDER

SLOW = "tests.support.doubles:SLOW_BATCH"
"""An engine of known speed, 1600 samples/s: null needs millions to take as long."""
CLONE = Path(__file__).parents[2]
SMI = """\
#!/bin/sh
case "$*" in
  *-lgc*) echo "$@" >> "{log}"; echo "GPU clocks set to 1590" ;;
  *-rgc*) echo "$@" >> "{log}"; echo "All done." ;;
  *memory.used*) echo "{device}, 4" ;;
  *) echo 'Made-up G, 81559, 00000000:19:00.0, {device}, 9.0' ;;
esac
"""


@dataclass
class Machine:
    """A folder with a system file, and a GPU that nvidia-smi alone knows of."""

    folder: Path
    device: str = field(default_factory=lambda: f"GPU-{uuid.uuid4()}")

    @property
    def asked(self) -> list[str]:
        log = self.folder / "asked.txt"
        return log.read_text().splitlines() if log.is_file() else []

    def run(
        self, system: str, *options: str, engine: str = "null"
    ) -> subprocess.CompletedProcess[str]:
        """Run one short item on it."""
        (self.folder / "lab.toml").write_text(system)
        (self.folder / "topology.png").write_bytes(b"a drawing")
        tool = self.folder / "bin/nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        log = self.folder / "asked.txt"
        tool.write_text(SMI.format(log=log, device=self.device))
        tool.chmod(0o755)
        command = [
            sys.executable, "-m", "pytest", str(CLONE / "suites"),
            "-k", "resnet50 and offline and performance", "-p", "no:cacheprovider",
            "--mlperf-engine", engine, "--mlperf-duration", "0.3",
            "--mlperf-target-qps", "2000", "--mlperf-batch", "8",
            "--mlperf-system", str(self.folder / "lab.toml"),
            "--mlperf-reports", str(self.folder / "reports"), *options,
        ]  # fmt: skip
        path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
        here = {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": self.device}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=CLONE, env=here, check=False
        )

    def facts(self) -> dict[str, Any]:
        """Return the facts of the one verdict."""
        (path,) = (self.folder / "reports").rglob("verdict.json")
        found: dict[str, Any] = json.loads(path.read_text())["facts"]
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    (FOLDER / f"{made.device}.lock").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("", ["--mlperf-lock-clocks", "1590"]),
        ("", ["-o", "mlperf_lock_clocks=1590"]),
        ("[settings]\nlock_clocks = 1590\n", []),
    ],
    ids=["option", "ini", "system file"],
)
def test_a_session_locks_the_clock_of_its_gpu_and_resets_it(
    machine: Machine, system: str, options: list[str]
) -> None:
    """Asked for in three ways; the verdict says it."""
    done = machine.run(system, *options, engine=SLOW)

    assert done.returncode == 0, done.stdout
    assert [
        f"-i {machine.device} -lgc 1590,1590",
        f"-i {machine.device} -rgc",
    ] == machine.asked
    assert (
        machine.facts()["clocks locked"]
        == "1590 MHz for this run (GPU clocks set to 1590), then reset"
    )


def test_a_session_that_does_not_ask_changes_nothing(machine: Machine) -> None:
    """No setting, no fact."""
    done = machine.run("", engine=SLOW)

    assert done.returncode == 0, done.stdout
    assert machine.asked == []
    assert "clocks locked" not in machine.facts()


def test_starting_from_the_device_is_refused_with_every_reason(
    machine: Machine,
) -> None:
    """Not silently left out; the header has said that it was asked for."""
    done = machine.run("", "--start_from_device")

    assert done.returncode == 1
    assert "start_from_device: needs the committee's approval" in done.stdout
    assert "start_from_device of resnet50-offline-null is refused:" in done.stdout
    for why in ("is not enabled for lab", "diagram", "software", "ingress_gb_s"):
        assert f"{why}" in done.stdout
    assert not list((machine.folder / "reports").rglob("mlperf_log_*"))


def test_an_engine_that_cannot_start_from_the_device_fails(machine: Machine) -> None:
    """The system may, the engine null may not: nothing is measured."""
    system = """
[on_device]
start_from_device = true
diagram = "topology.png"
software = "GPUDirect RDMA"
ingress_gb_s = 50.0
"""
    done = machine.run(system, "-o", "mlperf_start_from_device=true")

    assert done.returncode == 1
    assert "the engine cannot do start_from_device (it can: neither)" in done.stdout
    assert not list((machine.folder / "reports").rglob("mlperf_log_summary.txt"))
