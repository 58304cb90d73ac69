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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from perf.conftest import Replay
from perf.suite_run import Bench
from tests.support import bare_loadgen
from tests.support import logs

LOGS = "MLPERF_JUDGE_LOGS"
SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
COPIES = 25
LARGE = 60_000_000
"""Bytes of a large detail log."""
MEMORY_MB = 200.0

EXPLAIN = """
import re, sys, time
from pytest_mlperf.commands.main import main
started = time.perf_counter()
code = main(["explain", *sys.argv[1:]])
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
        name: bare_loadgen.run(
            base / name / "performance" / "run_1", name, "PerformanceOnly"
        )
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


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process printed and took."""

    output: str
    seconds: float
    memory_mb: float


def run_code(code: str, *words: str, lines: str = "") -> Ended:
    """Run code, which prints its exit code, seconds and MB, on one core."""
    core = str(min(os.sched_getaffinity(0)))
    ended = subprocess.run(
        ["taskset", "-c", core, sys.executable, "-c", code, *words],
        input=lines,
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert ended.returncode == 0, ended.stderr
    _, seconds, memory = ended.stderr.split()[-3:]
    return Ended(ended.stdout, float(seconds), float(memory))


@pytest.fixture(scope="module")
def explained(tree: Path, bench: Bench) -> dict[str, list[Ended]]:
    """The tree judged, and its detail logs parsed and no more."""
    details = "\n".join(map(str, tree.rglob(DETAIL)))
    sides = {
        "explain": lambda: run_code(EXPLAIN, str(tree), "--json"),
        "json.loads": lambda: run_code(PARSE, lines=details),
    }
    return bench.alternate(sides, times=bench.runs + 2)


@pytest.mark.parametrize("side", ["explain", "json.loads"])
def test_a_tree(
    side: str, tree: Path, explained: dict[str, list[Ended]], replay: Replay
) -> None:
    """Every log of a tree is judged."""
    details = list(tree.rglob(DETAIL))
    megabytes = sum(path.stat().st_size for path in details) / 1e6
    seconds = [ended.seconds for ended in explained[side]]
    replay.report_seconds(
        f"explain {len(details)} logs of {megabytes:.1f} MB / parsing their lines",
        seconds,
        **{"MB/s": megabytes / median(seconds)},
    )

    verdicts = json.loads(explained["explain"][0].output)
    paths = {Path(verdict["path"]) for verdict in verdicts}
    assert {path.parent for path in details} <= paths


SCRIPTS = {
    "explain": "import sys; from pytest_mlperf.commands.main import main; "
    "sys.exit(main())",
    "pass": "pass",
}


@pytest.fixture(scope="module")
def starts(runs: dict[str, Path], bench: Bench) -> dict[str, list[float]]:
    """Seconds that a Python takes to judge a log, and to do nothing."""

    def time_process(script: str) -> float:
        command = [sys.executable, "-c", script, "explain", str(runs["Server"])]
        started = time.perf_counter()
        ended = subprocess.run(command, capture_output=True, timeout=60)
        assert ended.returncode in (0, 1), ended.stderr
        return time.perf_counter() - started

    sides = {side: partial(time_process, script) for side, script in SCRIPTS.items()}
    return bench.alternate(sides, times=5 * bench.runs)


@pytest.mark.parametrize("side", SCRIPTS)
def test_start(side: str, starts: dict[str, list[float]], replay: Replay) -> None:
    """One log from a shell, beside a Python that does nothing."""
    replay.report_seconds("explain one log / python -c pass", starts[side])


def write_large_log(source: Path, folder: Path, kind: str, samples: int) -> Path:
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
    replay: Replay,
) -> None:
    """60 MB are judged in bounded memory; no benchmark has so many samples as the last.

    R-GAT, the largest, has 0.8 million. Memory depends on no other load of the machine,
    so that it is asserted.
    """
    folder = tmp_path / "resnet50" / "Server" / "performance" / "run_1"
    write_large_log(runs["Server"], folder, kind, samples)
    ended = run_code(EXPLAIN, str(folder))
    replay.report_seconds(
        f"explain one log of {LARGE / 1e6:.0f} MB", [ended.seconds], MB=ended.memory_mb
    )

    assert ended.output.startswith(outcome or ("VALID", "INVALID")), ended.output
    assert ended.memory_mb < MEMORY_MB
