"""What the check of a large submission costs, beside reading its files once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from perf.ratio import Row
from perf.suite_run import Bench
from perf.suite_run import interleaved
from pytest_mlperf.core.submission import check
from tests.support import trees

Record = Callable[[Row], None]
RESULTS = 1400
"""About as many as the largest round had."""


def large(root: Path) -> Path:
    """Write a submission of so many results: one system's five, copied.

    Copies, not links: each is read from the disk as a submitter's would be.
    """
    trees.make(root, "v6.1")
    home = root / "closed" / trees.ORG
    text = (home / f"systems/{trees.SYSTEM}.json").read_text("utf-8")
    for number in range(1, RESULTS // 5):
        name = f"{trees.SYSTEM}-{number:03}"
        shutil.copytree(home / "results" / trees.SYSTEM, home / "results" / name)
        (home / f"systems/{name}.json").write_text(text, "utf-8")
    return root


def read_all(root: Path) -> float:
    """Read every file of a tree once and return the seconds."""
    started = time.perf_counter()
    for path in root.rglob("*"):
        if path.is_file():
            path.read_bytes()
    return time.perf_counter() - started


def check_all(root: Path) -> float:
    """Check a tree and return the seconds; it has no problem."""
    started = time.perf_counter()
    problems = list(check.check_tree(root))
    seconds = time.perf_counter() - started

    assert problems == []
    return seconds


def test_1400_results(bench: Bench, record: Record) -> None:
    """Every log of every result is judged in less than a minute."""
    root = large(bench.folder / "submission")
    tree, _ = check.read_tree(root)
    ours, plain = interleaved(
        bench.runs, lambda: check_all(root), lambda: read_all(root)
    )
    files = sum(1 for path in root.rglob("*") if path.is_file())
    size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    shutil.rmtree(root)

    name = f"submit check of {len(tree.results):,} results / reading its files"
    facts = {"files": files, "bytes": size}
    record(Row(name, "s", ours, plain, below=60.0, facts=facts))
    assert len(tree.results) == RESULTS
