"""A search by optuna itself: what it keeps, prunes, finds, and goes on with."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.halving import plan_rungs
from pytest_mlperf.tuning.journal import GridRun
from pytest_mlperf.tuning.sampled_search import Sampling
from pytest_mlperf.tuning.sampled_search import open_study
from pytest_mlperf.tuning.sampled_search import search
from tests.support.redis_server import RedisServer

pytest.importorskip("optuna", reason="needs the extra tune")
GRID = """
cell = "resnet50-offline"
[grid]
streams = [1, 2, 4, 8]
threads = [1, 2, 4, 8]
batch = [1, 2, 4, 8, 16, 32]
"""
BEST = 100.0


def run(point: Point, seconds: float) -> GridRun:
    """Return what a machine that likes streams=2 threads=4 batch=16 shows."""
    streams, threads, batch = (math.log2(int(text)) for _, text in point)
    if streams + threads > 5:
        return GridRun(point, seconds, figure="no memory")
    worth = BEST - 9 * abs(streams - 1) - 7 * abs(threads - 2) - 5 * abs(batch - 4)
    return GridRun(point, seconds, worth, f"{worth:g} samples/s")


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    (tmp_path / "grid.toml").write_text(GRID)
    return Grid.read(tmp_path / "grid.toml")


def test_it_finds_the_best_in_a_part_of_the_runs(tmp_path: Path, grid: Grid) -> None:
    """Of 96 combinations, 40 trials; a search that goes on repeats none."""
    sampling = Sampling("tpe", 40, f"journal:{tmp_path}/optuna.jsonl", seed=3)
    rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
    spent: list[float] = []

    def count(point: Point, seconds: float) -> GridRun:
        spent.append(seconds)
        return run(point, seconds)

    study = open_study(sampling, "one", grid.keep)
    whole = search(study, grid, rungs, 40, count)
    runs = len(spent)
    again = search(open_study(sampling, "one", grid.keep), grid, rungs, 40, count)

    assert len(study.trials) == 40
    assert whole[0].score is not None
    assert whole[0].score >= 0.95 * BEST
    assert whole[0].seconds == rungs[-1].seconds
    assert runs < 40 * len(rungs)  # some were pruned after a short run
    assert (again, len(spent)) == (whole, runs)
    other = open_study(sampling, "two", grid.keep)
    assert other.trials == []  # a search of another grid in the same storage


KILLED = """
import os, sys
from pathlib import Path
from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.halving import plan_rungs
from pytest_mlperf.tuning.sampled_search import Sampling, open_study, search
from tests.tuning.test_sampled_search import run
folder = Path(sys.argv[1])
grid = Grid.read(folder / "grid.toml")
study = open_study(Sampling("tpe", 20, f"journal:{folder}/optuna.jsonl"), "one", 3)
runs = []
def kill(point, seconds):
    runs.append(point)
    if len(runs) == 8:
        os.kill(os.getpid(), 9)
    return run(point, seconds)
search(study, grid, plan_rungs(96, 2.0, 3), 20, kill)
"""


def test_a_killed_search_goes_on_with_its_trials(tmp_path: Path, grid: Grid) -> None:
    """SIGKILL in the middle of a trial: that one is lost, and no other."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)}, check=False, timeout=300,
    )  # fmt: skip
    study = open_study(
        Sampling("tpe", 20, f"journal:{tmp_path}/optuna.jsonl"), "one", 3
    )
    before = [one for one in study.trials if one.state.is_finished()]

    search(study, grid, plan_rungs(96, 2.0, 3), 20, run)

    finished = [one for one in study.trials if one.state.is_finished()]
    assert done.returncode == -9
    assert before
    assert finished[: len(before)] == before
    assert (len(finished), len(study.trials)) == (20, 21)


def test_two_searches_share_a_redis_server(tmp_path: Path, grid: Grid) -> None:
    """What one has tried counts for the other; the trials are of both together."""
    server = RedisServer(tmp_path)
    try:
        sampling = Sampling("random", 6, f"{server.url}/0", seed=1)
        rungs = plan_rungs(len(grid.points), grid.seconds, grid.keep)
        search(open_study(sampling, "one", 3), grid, rungs, 4, run)
        second = open_study(sampling, "one", 3)
        shared = len(second.trials)
        search(second, grid, rungs, 6, run)

        assert (shared, len(second.trials)) == (4, 6)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        ("file.jsonl", "should be journal:FILE, redis://"),
        ("redis://:topsecret1@127.0.0.1:1/0", "--storage redis: ConnectionError"),
        ("mysql://root:topsecret1@host/db", "should be journal:FILE"),
        ("sqlite:////nowhere/at/all.db", "--storage sqlite: "),
    ],
)
def test_a_wrong_storage_says_what_it_should_be(storage: str, why: str) -> None:
    """And no password of it is shown."""
    with pytest.raises(ValueError, match="--storage") as caught:
        open_study(Sampling("tpe", 1, storage), "one", 3)

    assert why in str(caught.value)
    assert "topsecret1" not in str(caught.value)
