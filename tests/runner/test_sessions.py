"""Faults and signals as other processes meet them: sessions, and a parent that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mlperf.plugin.report import NOTHING_MEASURED
from pytest_mlperf.runner.runner import PARTIAL
from tests.support import doubles
from tests.support.newest import read_newest
from tests.support.processes import is_alive
from tests.support.processes import list_children

ROOT = Path(__file__).resolve().parents[2]
PATH = {**os.environ, "PYTHONPATH": str(ROOT)}
LIMIT_S = 120
pytestmark = pytest.mark.usefixtures("bounded")

PARENT = """
import sys, time
from pathlib import Path
import tests.support.doubles as doubles
from pytest_mlperf.core.types import Mode
from pytest_mlperf.runner.runner import Runner

runner = Runner(stall_s=600)

def tell(beat):
    if beat.phase == "run" and beat.issued:
        print(runner.pid, flush=True)

folder = Path(sys.argv[2])
if sys.argv[1] == "busy":
    runner.run(doubles.make_task(folder, "SLEEPING"), tell)
runner.run(doubles.make_task(folder, mode=Mode.ACCURACY))
print(runner.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let programs hear SIGINT where whoever started this one had it ignored: a shell
    does that for what it starts in the background.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("state", ["busy", "idle"])
def test_a_parent_that_is_killed_leaves_no_child(tmp_path: Path, state: str) -> None:
    """In the middle of a run, and between two: the child ends by itself."""
    command = [sys.executable, "-c", PARENT, state, str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=PATH)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    assert is_alive(child)

    parent.kill()
    parent.wait()
    parent.stdout.close()
    doubles.await_true(lambda: not is_alive(child), "the child's end")


def suites(reports: Path, *arguments: str) -> list[str]:
    """Return the command of a real session on the real suites, a second a run."""
    command = [sys.executable, "-m", "pytest", "suites", "-p", "no:cacheprovider"]
    command += ["--mlperf-duration", "1", "--mlperf-reports", str(reports)]
    return [*command, "--mlperf-target-qps", "1000", *arguments]


def test_a_broken_engine_is_one_failed_item_of_a_session(tmp_path: Path) -> None:
    """Its cause is in the report and in results.jsonl; other engines' items run on."""
    engine = doubles.spec("BROKEN")
    command = suites(
        tmp_path,
        *("--mlperf-engine", engine, "--mlperf-engine", "null"),
        *("-k", "performance and resnet50 and (offline or server)"),
    )
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = read_newest(tmp_path)
    by_engine = {
        name: [r for r in found.records if r.cell["engine"] == name]
        for name in ("broken", "null")
    }

    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert [record.cell["engine"] for record in found.records] == [
        "broken",
        "broken",
        "null",
        "null",
    ]
    assert found.end is not None
    assert tuple(found.end[key] for key in ("selected", "recorded", "interrupted")) == (
        4,
        4,
        False,
    )
    for record in by_engine["broken"]:
        assert (record.outcome, record.verdict) == ("failed", None)
        assert (
            "the run failed in phase run: RuntimeError: the third-party engine broke"
            in record.reason.partition("\n")[0]
        )
        assert "logs: " in record.reason
    assert all(record.verdict for record in by_engine["null"])
    # One traceback each: the engine's, in the runner. None of pytest's or ours. (In CI
    # pytest tells every failure whole once more, in its short summary.)
    report = done.stdout.partition("short test summary info")[0]
    assert report.count("Traceback (most recent call last)") == 2
    assert "fixtures/run.py" not in done.stdout
    assert "INTERNALERROR" not in done.stdout
    assert "During handling of the above exception" not in done.stdout
    assert done.stderr == ""


def test_what_the_default_engine_lacks_skips_its_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the remedy; nothing was measured. An engine that the user names
    has to be there.
    """
    absent = "import sys\nsys.modules['onnx'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(absent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    command = suites(tmp_path, "-k", "resnet50 and offline")
    default = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = read_newest(tmp_path)
    command += ["--mlperf-engine", "onnxruntime"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    why = "the engine onnxruntime needs onnx: pip install 'pytest-mlperf[onnxruntime]'"
    assert default.returncode == NOTHING_MEASURED, default.stdout + default.stderr
    assert {(r.outcome, r.reason) for r in found.records} == {("skipped", why)}
    assert len(found.records) == 2
    assert named.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --mlperf-engine onnxruntime: {why}" in named.stderr


@pytest.mark.parametrize("engine", ["SLEEPING", "HOLDING_THE_GIL"])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_session_with_its_results_marked(
    tmp_path: Path, engine: str
) -> None:
    """SIGINT in the middle of a run: no orphan, and a closing line that says so."""
    command = suites(
        tmp_path,
        *("--mlperf-engine", doubles.spec(engine)),
        *("-k", "performance and resnet50 and (offline or server)"),
    )
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def running() -> list[Path]:
        assert process.poll() is None, process.communicate()[0]
        return list(tmp_path.glob("*/logs/*/performance/mlperf_log_detail.txt"))

    doubles.await_true(running, "LoadGen's start")
    child = list_children(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    found = read_newest(tmp_path)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert len(child) == 1
    assert not is_alive(child[0])
    assert found.end is not None
    assert found.end["interrupted"] is True
    assert found.end["selected"] == 2
    assert "partial: interrupted" in output
    assert "INTERNALERROR" not in output
    assert len(list(tmp_path.glob(f"2*/logs/*/performance/{PARTIAL}"))) == 1
