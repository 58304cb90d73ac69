"""A runner's CPUs and memory, on this machine's kernel and on made-up nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlperf.machine.affinity import Binding
from pytest_mlperf.machine.affinity import bind
from pytest_mlperf.machine.affinity import find_nodes

CLONE = Path(__file__).parents[2]


def run(code: str) -> object:
    """Run code in a process of its own, which may bind itself."""
    head = (
        "import json, os\n"
        "from pathlib import Path\n"
        "from pytest_mlperf.machine import affinity\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        check=True,
        capture_output=True,
        text=True,
        cwd=CLONE,
    )
    return json.loads(done.stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a machine of two nodes with CPUs, the first having ours, and a GPU's."""
    folder = tmp_path / "sys/devices/system/node"
    for node, cpus in enumerate([f"0-{max(os.sched_getaffinity(0))}", "900-901", ""]):
        (folder / f"node{node}").mkdir(parents=True)
        (folder / f"node{node}/cpulist").write_text(f"{cpus}\n")
    (folder / "online").write_text("0-2\n")
    return tmp_path


def test_nodes_are_those_of_the_cpus(root: Path) -> None:
    """One node of two is a choice; both together are none."""
    assert find_nodes([0], root) == (0,)
    assert find_nodes([900], root) == (1,)
    assert find_nodes([0, 900], root) == ()
    assert find_nodes([], root) == ()


def test_memory_comes_from_the_nodes_of_the_cpus(root: Path) -> None:
    """The kernel says what it was told, or the binding says why it was not."""
    said = run(
        "cpu = min(os.sched_getaffinity(0))\n"
        f"made = affinity.bind([cpu], Path({str(root)!r}))\n"
        "print(json.dumps([list(os.sched_getaffinity(0)) == [cpu], list(made.nodes),"
        " made.note, affinity.read_policy()]))"
    )

    assert isinstance(said, list)
    assert said[0] is True
    if said[2]:
        assert said[1] == []
        assert "memory is not bound to node 0" in said[2]
    else:
        assert [said[1], said[3]] == [[0], [1, [0]]]


def test_one_node_changes_no_policy() -> None:
    """Where there is nothing to choose, the kernel keeps its own way."""
    said = run(
        "before = affinity.read_policy()\n"
        "made = affinity.bind(sorted(os.sched_getaffinity(0)), Path('/nowhere'))\n"
        "print(json.dumps([made.nodes, made.note, before == affinity.read_policy()]))"
    )

    assert said == [[], "", True]


def test_policy_of_the_user_is_kept() -> None:
    """``numactl`` before pytest is respected, and the binding says so."""
    said = run(
        "cpu = min(os.sched_getaffinity(0))\n"
        "affinity.prefer_nodes([0])\n"
        "before = affinity.read_policy()\n"
        "note = affinity.prefer_nodes([1])\n"
        "print(json.dumps([before, note, before == affinity.read_policy()]))"
    )

    assert isinstance(said, list)
    assert said[2] is True
    kept = "memory is not bound to node 1: the policy set from outside is kept"
    assert kept == said[1] or not said[0] or said[0][0] == 0


def test_refused_cpus_are_a_note_and_no_crash() -> None:
    """A CPU that is not there leaves the process where it was."""
    before = tuple(sorted(os.sched_getaffinity(0)))
    made = bind([60000])

    assert before == made.cpus
    assert "CPUs 60000 were refused" in made.note


def test_binding_reads_as_one_fact() -> None:
    """CPUs, nodes and what was refused, in the grammar's spelling."""
    assert str(Binding((0, 1, 2, 3, 8), (0,))) == "CPUs 0-3,8, memory of node 0"
    assert str(Binding((5,), (), "why")) == "CPUs 5 (why)"
