"""A server's GPU memory, on a real GPU: held while it answers, free when it has ended.

Skipped without one. There: ``pytest tests/gpu/test_server.py -p no:cacheprovider``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_mlperf.machine import gpu_memory
from tests.support.service_doubles import ENTRY_POINT

CLONE = Path(__file__).parents[2]
GIB = 8
SYSTEM = """
[server]
command = ["{python}", "{script}", "{gib}", "{{port}}"{more}]
ready_s = 60
grace_s = 5
concurrency = 8
warm_up = 2
"""
pytestmark = pytest.mark.skipif(
    gpu_memory.read_memory_in_use() is None, reason="nvidia-smi shows no GPU"
)


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Path]:
    """The file that names a process left behind, which is ended at last."""
    file = tmp_path / "left.pid"
    yield file
    with suppress(OSError, ValueError):
        os.kill(int(file.read_text()), signal.SIGKILL)


def session(folder: Path, left: Path, more: str = "") -> list[dict[str, object]]:
    """Run two performance items, each with a fresh server; return their records."""
    metadata = folder / "asking-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asking\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINT)
    script = CLONE / "tests/support/gpu_hold.py"
    system = folder / "lab.toml"
    system.write_text(
        SYSTEM.format(python=sys.executable, script=script, gib=GIB, more=more)
    )
    paths = os.pathsep.join([str(folder), str(CLONE), *filter(None, sys.path)])
    wish = "llama3.1-8b and (interactive or server) and performance"
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", str(CLONE / "suites"), "-k", wish,
            "-p", "no:cacheprovider", "--mlperf-duration", "1.5",
            "--mlperf-target-qps", "400", "--mlperf-system", str(system),
            "--mlperf-reports", str(folder / "reports"),
        ],
        capture_output=True, text=True, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "LEFT_PID": str(left)},
    )  # fmt: skip
    found = list((folder / "reports").rglob("results.jsonl"))
    assert found, done.stdout + done.stderr
    lines = [json.loads(line) for line in found[0].read_text().splitlines()]
    return [line for line in lines if "nodeid" in line]


def test_memory_is_free_again_before_the_next_server(
    tmp_path: Path, left: Path
) -> None:
    """The second verdict says what the first server held, and that it is free."""
    before = gpu_memory.read_memory_in_use()
    records = session(tmp_path, left)
    facts = [json.dumps(one) for one in records]

    assert len(records) == 2
    assert "GPU memory after the last server" not in facts[0]
    assert "free again" in facts[1]
    assert f"it held {GIB}," in facts[1]
    assert gpu_memory.wait_until_free(before)[0]


def test_memory_that_stays_in_use_fails_the_next_item(
    tmp_path: Path, left: Path
) -> None:
    """It names the GPU and what to do; nothing is measured beside what holds it."""
    records = session(tmp_path, left, more=', "left"')
    said = json.dumps(records[1])
    (gpu,) = gpu_memory.read_memory_in_use() or {"none": 0}

    assert "left GPU memory in use" in said
    assert f"{gpu} holds {GIB}," in said
    assert "nvidia-smi shows the processes" in said
