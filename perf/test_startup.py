"""What the plugin adds to a pytest that does not use it, and what collecting costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from functools import cache
from functools import partial
from pathlib import Path

import pytest

from perf.conftest import Replay
from perf.suite_run import ROOT
from perf.suite_run import Bench

SIDES = {"with-plugin": ("-p", "mlperf"), "without": ()}


def run_pytest(folder: Path, *arguments: str) -> tuple[str, float]:
    """Run pytest with no plugin but those named; return its output and seconds."""
    command = [sys.executable, "-m", "pytest", *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    started = time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    seconds = time.perf_counter() - started

    assert ended.returncode == 0, ended.stdout
    return ended.stdout, seconds


@cache
def measure_starts(bench: Bench, flag: str) -> dict[str, list[tuple[str, float]]]:
    """Return what a pytest that prints its version printed and took."""
    folder = bench.make_folder("start")
    sides = {
        side: partial(run_pytest, folder, *plugin, flag)
        for side, plugin in SIDES.items()
    }
    return bench.alternate(sides, times=5 * bench.runs)


@pytest.mark.parametrize("flag", ["--version", "-VV"])
@pytest.mark.parametrize("side", SIDES)
def test_version(side: str, flag: str, bench: Bench, replay: Replay) -> None:
    """Both print pytest's version; ``-VV`` loads plugins, ``--version`` may not."""
    starts = measure_starts(bench, flag)[side]
    replay.report_seconds(f"pytest {flag}", [seconds for _, seconds in starts])

    assert all("pytest" in output for output, _ in starts)


def test_collection(bench: Bench, replay: Replay) -> None:
    """Collecting every suite finds the same cells each time."""
    words = (*SIDES["with-plugin"], "suites", "--collect-only", "-q")
    seconds, counts = [], set()
    for _ in range(bench.runs + 2):
        output, _ = run_pytest(ROOT, *words)
        summary = re.search(r"(\d+) tests collected in ([\d.]+)s", output)
        assert summary, output[-2000:]
        counts.add(int(summary[1]))
        seconds.append(float(summary[2]))
    replay.report_seconds("pytest suites --collect-only -q", seconds, items=max(counts))

    assert len(counts) == 1
    assert 0 not in counts
