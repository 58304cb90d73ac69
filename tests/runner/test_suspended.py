"""A job that stands still as a whole: nobody's hang, and nothing ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STALL_S = 3.0
LIMIT_S = 120
PARENT = """
import sys
from pathlib import Path
import tests.support.doubles as doubles
from pytest_mlperf.runner.runner import Runner

runner = Runner(stall_s=float(sys.argv[2]))

def tell(beat):
    if beat.phase == "run" and beat.issued:
        print(runner.pid, flush=True)

runner.run(doubles.make_task(Path(sys.argv[1]), "SLOW_BATCH", seconds=2), tell)
"""


@pytest.mark.usefixtures("bounded")
def test_a_job_that_is_suspended_goes_on(tmp_path: Path) -> None:
    """Longer than the stall time, as where Slurm has another job first; the parent
    wakes before its child.
    """
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(STALL_S)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:  # fmt: skip
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            os.kill(parent.pid, signal.SIGSTOP)
            os.kill(child, signal.SIGSTOP)
            time.sleep(STALL_S + 1)
            os.kill(parent.pid, signal.SIGCONT)
            time.sleep(0.5)
            os.kill(child, signal.SIGCONT)
            output, _ = parent.communicate(timeout=LIMIT_S)
        finally:
            parent.kill()

    assert parent.returncode == 0, output
