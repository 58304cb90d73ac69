"""A grid: its file, its journal, and halving on candidates of known worth."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from pytest_mlperf.tuning.grid_file import Grid
from pytest_mlperf.tuning.grid_file import Point
from pytest_mlperf.tuning.halving import halve
from pytest_mlperf.tuning.halving import plan_rungs
from pytest_mlperf.tuning.journal import GridRun
from pytest_mlperf.tuning.journal import Journal
from pytest_mlperf.tuning.run_table import COLUMNS
from pytest_mlperf.tuning.run_table import write_runs

GRID = """
cell = "resnet50-offline-onnxruntime"
[options]
precision = "fp32"
[grid]
streams = [1, 2]
threads = [1]
batch = [1, 4, 16]
"""
ONE: Point = (("batch", "1"),)
TWO: Point = (("batch", "2"),)


def write_grid(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return path


def test_a_grid_is_every_combination_in_the_order_of_the_file(tmp_path: Path) -> None:
    grid = Grid.read(write_grid(tmp_path, GRID))

    assert len(grid.points) == 6
    assert grid.points[0] == (("streams", "1"), ("threads", "1"), ("batch", "1"))
    assert grid.points[-1] == (("streams", "2"), ("threads", "1"), ("batch", "16"))
    assert grid.options == {"precision": "fp32"}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[grid]", "[gird]", "gird, but should be among"),
        ("[1, 2]", "2", "[grid] streams = 2, but should be a list of values"),
        ("[1, 2]", "[]", "should be a list of values"),
        ("cell =", "keep = 1\ncell =", "keep = 1, but should be 2 or more"),
        ("cell =", "seconds = 0\ncell =", "seconds = 0, but should be above 0"),
        ('"resnet50-offline-onnxruntime"', "7", "cell = 7, but should be an item's id"),
        ("[1, 2]", "[1, 2", "grid.toml: "),
    ],
)
def test_a_wrong_grid_says_what_it_should_be(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    """Found, required, where."""
    path = write_grid(tmp_path, GRID.replace(old, new, 1))

    with pytest.raises(ValueError, match=r"grid\.toml") as caught:
        Grid.read(path)

    assert why in str(caught.value)


@pytest.mark.parametrize("seed", range(10))
def test_halving_finds_the_best_of_48_in_a_third_of_the_time(seed: int) -> None:
    """Within 2 %, on runs whose noise is less the longer they are."""
    chance = random.Random(seed)
    worth = {number: 100 * chance.uniform(0.4, 1.0) for number in range(48)}
    spent = {"halving": 0.0}

    def score(candidate: int, seconds: float) -> float:
        spent["halving"] += seconds
        return worth[candidate] * chance.gauss(1, 0.02 / seconds**0.5)

    rungs = plan_rungs(len(worth), 2.0, 3)
    (best, _), *_ = halve([*worth], rungs, score)

    assert worth[best] >= 0.98 * max(worth.values())
    assert spent["halving"] <= len(worth) * rungs[-1].seconds / 3
    assert [rung.seconds for rung in rungs] == [2, 6, 18, 54]


def test_what_cannot_run_is_out_and_nothing_is_no_result() -> None:
    rungs = plan_rungs(4, 1.0, 2)

    found = halve([1, 2, 3, 4], rungs, lambda one, _: None if one == 4 else float(one))

    assert [one for one, _ in found] == [3, 2]
    assert halve([1, 2, 3, 4], rungs, lambda *_: None) == []


def test_a_killed_search_goes_on_from_its_journal(tmp_path: Path) -> None:
    """A torn line is its run lost, and no other."""
    path = tmp_path / "grid.journal.jsonl"
    header = {"grid": "abc", "options": {"engine": ("null",)}}
    journal = Journal.open(path, header)
    journal.add(GridRun(ONE, 2.0, 5.0, "5 samples/s", "build", 0.1))
    journal.add(GridRun(TWO, 2.0, None, "it cannot be built"))
    with path.open("a") as stream:
        stream.write('{"point": [["batch", "4"]], "sec')

    again = Journal.open(path, header)
    again.add(GridRun(ONE, 6.0, 5.5))

    assert again.find(ONE, 2.0) == GridRun(ONE, 2.0, 5.0, "5 samples/s", "build", 0.1)
    assert again.find(TWO, 2.0) == GridRun(TWO, 2.0, None, "it cannot be built")
    assert again.find(TWO, 6.0) is None
    assert Journal.open(path, header).runs == again.runs
    assert len(again.runs) == 3


def test_the_journal_of_another_grid_is_refused(tmp_path: Path) -> None:
    """Its runs say nothing of this one."""
    path = tmp_path / "grid.journal.jsonl"
    Journal.open(path, {"grid": "abc"})

    with pytest.raises(ValueError, match="another grid or machine; give --again"):
        Journal.open(path, {"grid": "def"})


def test_the_runs_of_a_grid_are_lines_of_csv(tmp_path: Path) -> None:
    """Every column is there for every run, one that could not run too."""
    runs = [
        GridRun((("batch", "8"), ("streams", "1")), 2.0, 121.5, "121.5 samples/s", "ab",
                0.25),
        GridRun((("batch", "32"),), 2.0, None, "out of memory, at 32"),
    ]  # fmt: skip
    path = tmp_path / "runs.csv"
    write_runs(path, runs)
    with path.open(newline="", encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)

    assert [*first] == ["batch", "streams", *COLUMNS]
    assert (first["batch"], first["score"], first["build"]) == ("8", "121.5", "ab")
    assert (second["streams"], second["score"]) == ("", "")
    assert second["figure"] == "out of memory, at 32"
