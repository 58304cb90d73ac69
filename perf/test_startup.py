"""What the plugin adds to a pytest that does not use it, and what collecting costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from perf.ratio import Row
from perf.suite_run import Bench
from perf.suite_run import interleaved

Record = Callable[[Row], None]
ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "pytest_mlperf.plugin.hooks"


def pytest_process(folder: Path, *arguments: str) -> tuple[str, float]:
    """Run pytest with no plugin but those named; return its output and milliseconds."""
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
    return ended.stdout, 1000 * seconds


@pytest.mark.parametrize("flag", ["--version", "-VV"])
def test_version(flag: str, bench: Bench, record: Record, tmp_path: Path) -> None:
    """Both print pytest's version; ``-VV`` loads plugins, ``--version`` may not."""
    times = 5 * bench.runs
    with_it, without = interleaved(
        times,
        lambda: pytest_process(tmp_path, "-p", PLUGIN, flag)[1],
        lambda: pytest_process(tmp_path, flag)[1],
    )

    name = f"pytest {flag}, with / without the plugin"
    record(Row(name, "ms", with_it, without, adds_below=50.0))
    assert "pytest" in pytest_process(tmp_path, "-p", PLUGIN, flag)[0]


def test_collection(bench: Bench, record: Record) -> None:
    """Collecting every suite finds every cell, and says how long it took."""
    seen: set[int] = set()

    def collect() -> float:
        arguments = ("-p", PLUGIN, "suites", "--collect-only", "-q")
        text, _ = pytest_process(ROOT, *arguments)
        found = re.search(r"(\d+) tests collected in ([\d.]+)s", text)
        assert found, text[-2000:]
        seen.add(int(found[1]))
        return float(found[2])

    (took,) = interleaved(bench.runs + 2, partial(collect))

    count = max(seen)
    name = f"pytest suites --collect-only -q, {count} items"
    record(Row(name, "s", took, below=1.0))
    assert seen == {count}
    assert count > 0
