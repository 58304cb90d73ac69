"""How fast and in how much memory logs are read and judged, beside reading JSON alone.

MLPERF_JUDGE_LOGS names a tree of runs, such as unpacked official results; without it
the logs are 100 copies of real LoadGen runs of a second.
"""

from __future__ import annotations

import json
import os
import shutil
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
from tests.support import logs

Record = Callable[[Row], None]
LOGS = "MLPERF_JUDGE_LOGS"
SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
COPIES = 25
LARGE = 60_000_000
"""Bytes of a large detail log."""

EXPLAIN = """
import re, sys, time
from pytest_mlperf.commands import main
started = time.perf_counter()
code = cli.main(["explain", *sys.argv[1:]])
seconds = time.perf_counter() - started
# Not getrusage, whose peak includes the parent's before exec.
used = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(code, seconds, used, file=sys.stderr)
"""
PARSE = """
import json, sys, time
started = time.perf_counter()
for path in sys.stdin.read().splitlines():
    with open(path) as file:
        for line in file:
            json.loads(line.partition(" ")[2])
print(0, time.perf_counter() - started, 0, file=sys.stderr)
"""
"""The least that reading these files can cost in Python."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One real run of a second for each scenario, where a result would lie."""
    base = tmp_path_factory.mktemp("real") / "resnet50"
    return {
        name: logs.real(base / name / "performance" / "run_1", name, "PerformanceOnly")
        for name in SCENARIOS
    }


@pytest.fixture(scope="module")
def tree(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tree that the user named, or one of 100 logs."""
    if named := os.environ.get(LOGS):
        return Path(named)
    root = tmp_path_factory.mktemp("tree")
    for number in range(COPIES):
        shutil.copytree(
            runs["Offline"].parents[2], root / f"box{number:02}" / "resnet50"
        )
    return root


def child(code: str, *words: str, given: str = "") -> tuple[int, float, float, str]:
    """Run code on one core; return its exit code, seconds, MB and output."""
    core = str(min(os.sched_getaffinity(0)))
    ended = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-c", code, *words],
        input=given,
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert ended.returncode == 0, ended.stderr
    code_, seconds, used = ended.stderr.split()[-3:]
    return int(code_), float(seconds), float(used), ended.stdout


def test_a_tree(tree: Path, bench: Bench, record: Record) -> None:
    """Every log of a tree is judged; the goal is that of 427 logs of 48 MB."""
    details = sorted(tree.rglob(DETAIL))
    size = sum(path.stat().st_size for path in details) / 1e6
    given = "\n".join(map(str, details))
    judged = json.loads(child(EXPLAIN, str(tree), "--json")[3])
    ours, bare = interleaved(
        bench.runs + 2,
        lambda: child(EXPLAIN, str(tree), "--json")[1],
        lambda: child(PARSE, given=given)[1],
    )

    name = f"explain {len(details)} logs of {size:.1f} MB / json.loads of their lines"
    record(Row(name, "s", ours, bare, below=5.0))
    read = {Path(verdict["path"]) for verdict in judged}
    assert {path.parent for path in details} <= read


def test_start(runs: dict[str, Path], bench: Bench, record: Record) -> None:
    """One log from a shell, beside a Python that does nothing."""

    def process(*command: str) -> float:
        started = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, timeout=60)
        assert ended.returncode in (0, 1), ended.stderr
        return 1000 * (time.perf_counter() - started)

    script = (
        "import sys; from pytest_mlperf.commands.main import main; sys.exit(main())"
    )
    words = ("-c", script, "explain", str(runs["Server"]))
    ours, bare = interleaved(
        5 * bench.runs,
        partial(process, sys.executable, *words),
        partial(process, sys.executable, "-c", "pass"),
    )

    record(Row("explain one log / python -c pass", "ms", ours, bare, below=300.0))


def grown(source: Path, folder: Path, kind: str, samples: int) -> Path:
    """Copy a run whose detail log repeats a line of that kind until it is large.

    ``samples`` is how many numbers its loaded_qsl_set gets, in one line.
    """
    folder.mkdir(parents=True)
    shutil.copy(source / SUMMARY, folder)
    error = kind == "errors"
    key = "error_runtime" if error else "warning_generic_message"
    line = logs.line(key, "Same again. " * 20, error=error, warning=not error)
    text = (source / DETAIL).read_text().splitlines(keepends=True)
    with (folder / DETAIL).open("w") as file:
        for old in text:
            if samples and '"loaded_qsl_set"' in old:
                numbers = ",".join(map(str, range(samples)))
                old = f"{old.partition('[')[0]}[{numbers}]{old.partition(']')[2]}"
            file.write(old)
            if '"loadgen_version"' in old:
                file.writelines([line] * ((LARGE - 8 * samples) // len(line)))
    return folder


@pytest.mark.parametrize(
    ("kind", "samples", "outcome"),
    [
        ("warnings", 0, ""),
        ("errors", 0, ""),
        ("warnings and 1.5 million samples in a line", 1_500_000, ""),
        ("7.5 million samples in a line", 7_500_000, "ERROR"),
    ],
)
def test_a_large_log(
    kind: str,
    samples: int,
    outcome: str,
    runs: dict[str, Path],
    tmp_path: Path,
    record: Record,
) -> None:
    """60 MB are judged in bounded memory; no benchmark has so many samples as the last.

    R-GAT, the largest, has 0.8 million.
    """
    folder = tmp_path / "resnet50" / "Server" / "performance" / "run_1"
    grown(runs["Server"], folder, kind, samples)
    size = (folder / DETAIL).stat().st_size / 1e6
    _, seconds, used, shown = child(EXPLAIN, str(folder))

    record(Row(f"memory for {size:.0f} MB: {kind}", "MB", [used], below=200.0))
    record(Row(f"time for {size:.0f} MB: {kind}", "s", [seconds]))
    assert shown.startswith(outcome or ("VALID", "INVALID")), shown
