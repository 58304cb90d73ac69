"""Which round a run is of: its own seeds, or those of its performance run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_mlperf.core import rounds
from pytest_mlperf.core.judge.identify import identify
from pytest_mlperf.core.logs.discover import find_runs
from pytest_mlperf.core.verdict import Status
from pytest_mlperf.core.verdict import Verdict
from tests.support import dialects
from tests.support import logs

OWN_SEEDS = {
    "effective_qsl_rng_seed": 1,
    "effective_sample_index_rng_seed": 2,
    "effective_schedule_rng_seed": 3,
}
CELL = "system/resnet50/Offline"


def judge(root: Path, round_name: str = "") -> dict[str, Verdict]:
    """Return the verdict of every run below, by its place."""
    found = [(one.path, identify(one, round_name)) for one in find_runs(root)]
    return {path.relative_to(root).as_posix(): verdict for path, verdict in found}


def submission(root: Path) -> Path:
    """Return the home of a submitter."""
    return root / "closed" / "Anon"


@pytest.mark.parametrize("name", dialects.ROUNDS)
def test_a_performance_run_is_of_the_round_of_its_seeds(
    tmp_path: Path, name: str
) -> None:
    """Of every round that is known, without --round."""
    home = submission(tmp_path) / "results" / CELL / "performance" / "run_1"
    dialects.performance(home, name, "Offline")
    (found,) = judge(tmp_path).values()

    assert found.round == name
    assert found.outcome == "VALID", found.explain()


def test_seeds_of_no_round_are_the_first_thing_said(tmp_path: Path) -> None:
    """No other rule is checked, and nobody is told to set another round's seeds."""
    home = submission(tmp_path) / "results" / CELL / "performance" / "run_1"
    logs.performance(home, "Offline", change=OWN_SEEDS)
    (found,) = judge(tmp_path).values()
    (check,) = found.checks

    assert (found.outcome, found.round, check.name) == ("ERROR", "", "seeds")
    assert check.found == "seeds of no known round: 1, 2, 3"
    assert check.required == "those of a round from v1.0 to v6.1"
    assert "--round" in check.remedy


def test_a_round_that_is_asked_for_is_taken_all_the_same(tmp_path: Path) -> None:
    """Then the seeds are wrong, and that is one of its rules."""
    home = submission(tmp_path) / "results" / CELL / "performance" / "run_1"
    logs.performance(home, "Offline", change=OWN_SEEDS)
    (found,) = judge(tmp_path, "v5.1").values()

    assert (found.outcome, found.round) == ("INVALID", "v5.1")


def test_a_round_without_the_benchmark_is_named(tmp_path: Path) -> None:
    """v2.0's seeds and a model of v5.1: no newer round takes the run."""
    folder = "results/system/llama3.1-405b/Offline/performance/run_1"
    logs.performance(submission(tmp_path) / folder, "Offline", seeds="v2.0")
    (found,) = judge(tmp_path).values()
    (check,) = found.checks

    assert (found.outcome, found.round, check.name) == ("ERROR", "v2.0", "rule")


@pytest.mark.parametrize("name", ["v2.1", "v4.1", "v5.1"])
def test_an_accuracy_run_is_of_its_performance_runs_round(
    tmp_path: Path, name: str
) -> None:
    """Its own seeds do not count: here they are v6.1's."""
    home = submission(tmp_path) / "results" / CELL
    dialects.performance(home / "performance" / "run_1", name, "Offline")
    logs.accuracy(home / "accuracy")
    found = judge(tmp_path)["closed/Anon/results/" + CELL + "/accuracy"]

    assert found.round == name
    assert found.facts["round"] == f"{name}: the seeds of its performance run"


def test_an_accuracy_run_that_stands_alone_is_of_its_own_seeds_round(
    tmp_path: Path,
) -> None:
    """Of the newest round that has it where those are of none."""
    first = submission(tmp_path / "1") / "results" / CELL / "accuracy"
    logs.accuracy(first, change=OWN_SEEDS)
    second = submission(tmp_path / "2") / "results" / CELL / "accuracy"
    logs.accuracy(second)
    shutil.rmtree(second)
    (found,) = judge(tmp_path / "1").values()

    assert found.round == rounds.ROUNDS[-1]
    assert all(check.name != "seeds" for check in found.checks)


@pytest.mark.parametrize("test", ["TEST01", "TEST05"])
@pytest.mark.parametrize(
    "place",
    [
        "compliance/system/resnet50/Offline/{}/performance/run_1",
        "results/system/resnet50/Offline/{}/performance/run_1",
        "results/system/resnet50/Offline/{}",
    ],
)
def test_a_compliance_run_is_of_its_performance_runs_round(
    tmp_path: Path, place: str, test: str
) -> None:
    """In either layout; TEST05's seeds were the same from v1.0 to v2.1."""
    home = submission(tmp_path)
    dialects.performance(
        home / "results" / CELL / "performance" / "run_1", "v2.0", "Offline"
    )
    seeds = rounds.get("v2.0").seeds
    qsl, index, schedule = seeds.test05 or (0, 0, 0)
    change: dict[str, object] = {
        "effective_qsl_rng_seed": qsl,
        "effective_sample_index_rng_seed": index,
        "effective_schedule_rng_seed": schedule,
    }
    if test == "TEST01":
        change = {
            "effective_accuracy_log_rng_seed": 720381539243781796,
            "effective_accuracy_log_sampling_target": 4096,
        }
    dialects.performance(home / place.format(test), "v2.0", "Offline", change)
    found = judge(tmp_path)["closed/Anon/" + place.format(test)]

    assert found.round == "v2.0"
    assert found.outcome == "VALID", found.explain()


@pytest.mark.parametrize("build", ["v1.1", "v2.0", "v2.1"])
def test_a_test05_that_stands_alone_is_of_a_round_of_its_loadgen(
    tmp_path: Path, build: str
) -> None:
    """Its seeds are of four rounds; an old LoadGen is not judged by the newest."""
    place = submission(tmp_path) / "compliance/system/resnet50/Offline/TEST05"
    qsl, index, schedule = rounds.get(build).seeds.test05 or (0, 0, 0)
    change: dict[str, object] = {
        "effective_qsl_rng_seed": qsl,
        "effective_sample_index_rng_seed": index,
        "effective_schedule_rng_seed": schedule,
    }
    dialects.performance(place / "performance/run_1", build, "Offline", change)
    (found,) = judge(tmp_path).values()

    # LoadGen 1.1 of July 2021 is too old for v2.0, whose results begin in August.
    assert found.round == ("v2.1" if build == "v2.0" else build)
    assert found.outcome == "VALID", found.explain()


def test_a_compliance_run_that_the_round_does_not_ask_for_is_noted(
    tmp_path: Path,
) -> None:
    """It is judged by its test's settings, and the note says to leave it out."""
    home = submission(tmp_path)
    place = "compliance/system/bert-99/Offline/TEST04-A/performance/run_1"
    unique: dict[str, object] = {
        "effective_performance_issue_unique": True,
        "effective_performance_sample_count": 10_833,
        "qsl_reported_performance_count": 10_833,
        "qsl_reported_total_count": 10_833,
    }
    taken = logs.rising(10_833, 1_000_000, 660_000_000_000)
    dialects.performance(
        home / place, "v2.0", "Offline", unique, latencies=taken, loaded=10_833
    )
    (found,) = judge(tmp_path).values()

    assert found.outcome == "VALID", found.explain()
    assert found.checks[0].name == "asked_for"
    assert found.checks[0].status is Status.WAIVED
    assert found.checks[0].required == "TEST01 or TEST05"
