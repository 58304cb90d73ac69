"""What the check of a large submission costs, beside reading its files once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf.conftest import Replay
from perf.suite_run import Bench
from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check import read_tree
from tests.support import trees

RESULTS = 1400
"""About as many as the largest round had."""


@pytest.fixture(scope="module")
def large_tree(bench: Bench) -> Iterator[Path]:
    """A submission of so many results: one system's five, copied.

    Copies, not links: each is read from the disk as a submitter's would be.
    """
    root = bench.make_folder("submission")
    trees.make(root, "v6.1")
    home = root / "closed" / trees.ORG
    text = (home / f"systems/{trees.SYSTEM}.json").read_text("utf-8")
    for number in range(1, round(RESULTS * bench.scale) // 5):
        name = f"{trees.SYSTEM}-{number:03}"
        shutil.copytree(home / "results" / trees.SYSTEM, home / "results" / name)
        (home / f"systems/{name}.json").write_text(text, "utf-8")
    yield root
    shutil.rmtree(root)


def read_all(root: Path) -> float:
    """Read every file of a tree once and return the seconds."""
    started = time.perf_counter()
    for path in root.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return time.perf_counter() - started


def check_all(root: Path) -> float:
    """Check a tree, which has no problem, and return the seconds."""
    started = time.perf_counter()
    problems = list(check_tree(root))
    seconds = time.perf_counter() - started

    assert problems == []
    return seconds


@pytest.fixture(scope="module")
def seconds(bench: Bench, large_tree: Path) -> dict[str, list[float]]:
    """What both sides took."""
    return bench.alternate(
        {"check": lambda: check_all(large_tree), "read": lambda: read_all(large_tree)}
    )


@pytest.mark.parametrize("side", ["check", "read"])
def test_many_results(
    side: str,
    seconds: dict[str, list[float]],
    large_tree: Path,
    bench: Bench,
    replay: Replay,
) -> None:
    """Every log of every result is judged."""
    tree, _ = read_tree(large_tree)
    sizes = [path.stat().st_size for path in large_tree.rglob("*") if path.is_file()]
    replay.report_seconds(
        "submit check / reading all files",
        seconds[side],
        results=len(tree.results),
        files=len(sizes),
        bytes=sum(sizes),
    )

    assert len(tree.results) == round(RESULTS * bench.scale)
