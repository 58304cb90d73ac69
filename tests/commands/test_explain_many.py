"""A whole tree: judged by several processes, in order, and printed as it comes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlperf.commands.explanation.judging import CHUNK
from pytest_mlperf.commands.explanation.judging import FEW
from pytest_mlperf.commands.explanation.judging import format_progress
from tests.support import logs
from tests.support.processes import await_end
from tests.support.processes import list_children

RUNS = 2 * FEW + CHUNK // 2


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree of runs, every seventh of which is INVALID."""
    root = tmp_path_factory.mktemp("tree")
    good = logs.performance(root / "good", "Offline")
    seeds = {"effective_performance_issue_same": True}
    bad = logs.performance(root / "bad", "Offline", change=seeds)
    for number in range(RUNS):
        folder = root / "results" / f"system{number:04}" / "resnet50" / "Offline"
        source = bad if number % 7 == 0 else good
        shutil.copytree(source, folder / "performance" / "run_1", copy_function=os.link)
    return root / "results"


def explain(*words: str | Path) -> list[str]:
    program = "from pytest_mlperf.commands.main import main; raise SystemExit(main())"
    return [sys.executable, "-c", program, "explain", *map(str, words)]


def test_many_runs_are_judged_in_their_order(tree: Path) -> None:
    """The records are those of one process, whoever judged which."""
    done = subprocess.run(
        explain(tree, "--json"), capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    outcomes = ["VALID" if number % 7 else "INVALID" for number in range(RUNS)]

    assert done.returncode == 1
    assert done.stderr == ""
    assert [one["verdict"] for one in found] == outcomes
    assert [one["path"] for one in found] == sorted(one["path"] for one in found)
    assert done.stdout.strip() == json.dumps(found, indent=1)


def test_json_comes_as_it_is_judged(tree: Path) -> None:
    """Whoever reads the first records need not wait for the last, nor take it. Killed,
    it leaves no process behind.
    """
    with subprocess.Popen(explain(tree, "--json"), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        first = [running.stdout.readline() for _ in range(3)]
        children = list_children(running.pid)
        running.stdout.close()
        running.kill()
    for child in children:
        await_end(child)

    assert len(children) >= 2
    assert first[:2] == [b"[\n", b" {\n"]
    assert first[2].startswith(b'  "path": ')


def test_a_terminal_sees_how_far_it_is(tree: Path) -> None:
    """On the error stream, so that the output stays what it is in a pipe."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        explain(tree, "--json"), stdout=subprocess.PIPE, stderr=theirs
    ) as running:
        os.close(theirs)
        output, _ = running.communicate()
    shown = os.read(ours, 65_536).decode()
    os.close(ours)

    assert len(json.loads(output)) == RUNS
    assert shown.endswith("\r\x1b[K")


def test_the_line_says_how_many_and_how_long() -> None:
    """A quarter in 10 s leaves 30 s."""
    assert format_progress(50, 200, 10.0) == (
        "[######------------------] 50 of 200 runs, 30 s left"
    )
