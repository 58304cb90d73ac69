"""``pytest-mlperf tune`` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pytest_mlperf.commands.main import main
from pytest_mlperf.core.load_trials import CONFIRMATION
from pytest_mlperf.core.load_trials import LoadTrial
from pytest_mlperf.core.types import Scenario
from pytest_mlperf.machine.system_file import load_system_file
from pytest_mlperf.measure import expected
from pytest_mlperf.tuning import peak_search
from pytest_mlperf.tuning import server_procedure
from pytest_mlperf.tuning.peak_search import CONFIRMED


@pytest.fixture
def hasty_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few short trials: what is proved here is the way, not the figure."""
    hasty = {"SHORTEST_S": 0.2, "BOUNDS": 10, "MOST_TRIALS": 12, "TOLERANCE": 0.4}
    for name, value in hasty.items():
        monkeypatch.setattr(peak_search, name, value)


def tune(tmp_path: Path, *words: str) -> int:
    engine = () if "--mlperf-engine" in words else ("--mlperf-engine", "null")
    return main([
        "tune", *words, *engine,
        "--mlperf-cache", str(tmp_path / "cache"), "--mlperf-duration", "1",
        "--mlperf-reports", str(tmp_path / "reports"),
    ])  # fmt: skip


@pytest.mark.usefixtures("hasty_search")
def test_a_peak_is_searched_recorded_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record lists every trial; a second call finds the peak in the cache."""
    code = tune(tmp_path, "peak", "resnet50-server", "--noisy")
    shown = capsys.readouterr().out

    (file,) = tmp_path.glob("reports/*/peak-*.json")
    record = json.loads(file.read_text())
    trials = LoadTrial.read_all(record["peak"]["trials"])
    assert shown.count(" queries/s for ") == len(trials)
    assert record["cell"] == "resnet50-server-null"
    assert all(one.queries and one.late is not None for one in trials)
    assert len(trials) <= 13 + len(peak_search.CONFIRMATION_STEPS)
    assert f"{len(trials)} trials" in shown
    if code != 0:  # a machine that is busy with other tests keeps no load
        assert record["peak"]["outcome"] != CONFIRMED
        assert record["peak"]["reason"]
        return
    assert trials[-1].kind == CONFIRMATION
    assert record["tuning"]["target_qps"] == record["peak"]["qps"]
    assert len(record["tuning"]["trials"]) == len(trials)
    assert tune(tmp_path, "peak", "resnet50", "server") == 0
    assert "search again with --again" in capsys.readouterr().out


def test_other_scenarios_hear_what_to_expect(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Offline and streams have no peak; they get a rate or a latency to type."""
    monkeypatch.setattr(expected, "SECONDS", 0.3)

    code = tune(tmp_path, "peak", "resnet50-singlestream")

    assert code in {0, 1}  # 1: others use the CPUs
    text = capsys.readouterr().out
    assert "resnet50-singlestream-null: expected" in text
    option = text.partition("--mlperf-expected-latency-ms=singlestream=")[2]
    assert 0 < float(option.split()[0]) < 100


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("peak", "resnet50"), "may be resnet50-"),
        (("grid", "no.toml"), "No such file"),
        (("server", "no.toml"), "No such file"),
        (("peak", "resnet51-server"), "should be the id of an item"),
        (("peak", "resnet50-server", "--mlperf-target-qps", "9"), "leave it out"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    why: str,
) -> None:
    """Exit code 2, one sentence, no reports folder."""
    assert tune(tmp_path, *words) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "reports").exists()


def test_a_grid_is_searched_written_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last rung is a table; a journal cut off by a kill is gone on from."""
    file, written = tmp_path / "grid.toml", tmp_path / "mine.toml"
    text = 'cell = "resnet50-offline"\nseconds = 0.1\nkeep = 2\n[grid]\n'
    file.write_text(text + "streams = [1]\nbatch = [1, 16, 64]\n")
    code = tune(tmp_path, "grid", str(file), "--write", str(written))
    first = capsys.readouterr().out
    journal = tmp_path / "grid.journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:20])

    again = tune(tmp_path, "grid", str(file), "--csv", str(tmp_path / "runs.csv"))
    second = capsys.readouterr().out

    assert {code, again} <= {0, 1}  # 1: others use the CPUs
    assert len(lines) == 1 + 3 + 2  # header, three short runs, two longer ones
    assert "the last of 3 combinations" in first
    table = re.findall(r"^  streams=1 batch=\d+ +(\d+)%  .* samples/s$", first, re.M)
    assert [int(share) for share in table] == sorted(map(int, table), reverse=True)
    assert table[0] == "100"
    assert "2 runs are in" in second
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == len(lines)
    assert len(re.findall(r"batch=\d+, [0-9.]+ s: ", second)) == 3
    tuned = load_system_file(written).tuning
    best = re.search(r"best: streams=1 batch=(\d+)", first)
    assert best is not None
    settings = tuned.lookup("resnet50", "", Scenario.OFFLINE, "null")
    assert settings == {"streams": 1, "batch": int(best[1])}


@pytest.mark.usefixtures("hasty_search")
def test_peak_and_sweep_take_turns(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Load and settings are written together; other scenarios are sent to the grid."""
    monkeypatch.setattr(server_procedure, "MOST_ROUNDS", 1)
    file, written = tmp_path / "grid.toml", tmp_path / "mine.toml"
    text = 'cell = "resnet50-server"\nseconds = 0.1\nkeep = 2\n[grid]\n'
    file.write_text(text + "streams = [1]\nbatch = [1, 16]\n")

    code = tune(tmp_path, "server", str(file), "--noisy", "--write", str(written))
    shown = capsys.readouterr().out

    rounds = re.findall(r"^ +[\d,.]+ queries/s  streams=1 batch=\d+", shown, re.M)
    assert f", {len(rounds)} rounds; " in shown
    if code == 0:  # a machine that is busy with other tests confirms no load
        assert rounds
        assert re.search(r"batch=\d+ target_qps=\d+, 0.1 s: .* of the bound", shown)
        tuned = load_system_file(written).tuning
        settings = tuned.lookup("resnet50", "", Scenario.SERVER, "null")
        assert {*settings} == {"streams", "batch", "target_qps"}
        text = written.read_text()
        assert " tune server\n" in text
        assert re.search(r"^# Others used up to \d+% of the CPUs .*noisy", text, re.M)
        assert re.search(r"^# Engine build \w{8}", text, re.M)
    else:
        assert not written.exists()
    file.write_text(file.read_text().replace("server", "offline"))
    assert tune(tmp_path, "server", str(file)) == 2
    assert "has no load to search: tune grid is for it" in capsys.readouterr().err


def test_precisions_are_compared_question_by_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One engine whose int8 loses answers and whose fp16 loses none."""
    engine = ("--mlperf-engine", "tests.support.precisions:FEW_WRONG")
    cell = ("precision", "rgat-offline", *engine)
    written = tmp_path / "mine.toml"

    code = tune(tmp_path, *cell, "--precisions", "int8,fp16", "--write", str(written))

    shown = capsys.readouterr().out
    assert code == 0, shown
    lines = {line.split(":")[0].strip(): line for line in shown.splitlines()}
    assert "72 worse" in lines["int8"]
    assert "does not keep 99.0%" in lines["int8"]
    assert "0 answers better, 0 worse; keeps 99.0%" in lines["fp16"]
    system = load_system_file(written)
    tuning = system.tuning.lookup("rgat", "", Scenario.OFFLINE, "few_wrong")
    assert tuning["precision"] == "fp16"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--precisions", "fp32"), "should name what is compared with fp32"),
        (("--precisions", "fp17"), "fp17"),
        (("--precisions", "bf16"), "--mlperf-precision bf16: no precision of null"),
        (("--precisions", "int8", "--mlperf-precision", "int8"), "is what is compared"),
    ],
)
def test_precisions_that_cannot_be_compared(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    why: str,
) -> None:
    """Exit code 2 and one sentence, before anything runs."""
    assert tune(tmp_path, "precision", "bert-99-offline", *words) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.glob("reports/*/logs/*/accuracy*"))
