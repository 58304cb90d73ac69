"""Which runs are found below a path, and what the path tells of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pytest_mlperf.core.logs import discover
from pytest_mlperf.core.types import Mode
from pytest_mlperf.core.types import Scenario
from tests.support import logs

LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")


def touch(folder: Path, *names: str) -> Path:
    """Make a folder with empty files of these names, of a run's by default."""
    folder.mkdir(parents=True)
    for name in names or LOGS:
        (folder / name).touch()
    return folder


def submitter(root: Path, system_type: str = "edge") -> Path:
    """Make closed/ACME with the description of one system."""
    home = root / "closed" / "ACME"
    (home / "systems").mkdir(parents=True)
    text = json.dumps({"system_type": system_type})
    (home / "systems" / "box.json").write_text(text)
    return home


def found(root: Path) -> dict[str, discover.FoundRun]:
    """Return what is found: path below the root -> place."""
    places = list(discover.find_runs(root))
    below = {place.path.relative_to(root).as_posix(): place for place in places}

    assert len(places) == len(below)
    return below


def test_a_submission_tells_everything_of_its_runs(tmp_path: Path) -> None:
    """v5.x: performance, accuracy and compliance, with system and category."""
    home = submitter(tmp_path, "Edge")
    result = home / "results" / "box" / "resnet50" / "Offline"
    touch(result / "performance" / "run_1")
    touch(result / "accuracy")
    test = home / "compliance" / "box" / "resnet50" / "Offline" / "TEST04"
    touch(test / "performance" / "run_1")
    places = list(discover.find_runs(tmp_path))

    assert [place.problem for place in places] == [None] * 3
    assert {(p.benchmark, p.target, p.scenario) for p in places} == {
        ("resnet50", "", Scenario.OFFLINE)
    }
    assert {(p.system, p.submitter, p.division, p.category) for p in places} == {
        ("box", "ACME", "closed", "edge")
    }
    assert {(p.mode.value, p.test) for p in places if p.mode} == {
        ("performance", "TEST04"),
        ("accuracy", ""),
        ("performance", ""),
    }


def test_v6_keeps_compliance_beside_the_result(tmp_path: Path) -> None:
    """TEST01 is a folder of the scenario's; what it compares is no run."""
    home = submitter(tmp_path)
    result = home / "results" / "box" / "bert-99.9" / "SingleStream"
    touch(result / "performance" / "run_1")
    touch(result / "TEST01" / "performance" / "run_1")
    touch(result / "TEST01" / "accuracy", "mlperf_log_accuracy.json", "accuracy.txt")
    places = list(discover.find_runs(tmp_path))

    assert {place.test for place in places} == {"", "TEST01"}
    assert {(p.benchmark, p.target) for p in places} == {("bert", "99.9")}


@pytest.mark.parametrize(
    ("path", "name", "target", "scenario", "mode"),
    [
        ("bert-99-server-tvm/performance", "bert", "99", "Server", "performance"),
        ("resnet50-offline-null/accuracy-2", "resnet50", "", "Offline", "accuracy"),
        ("llama3_1-8b/Interactive/performance/run_1", "llama3.1-8b", "", "Interactive",
         "performance"),
        ("bert-99.9/multistream/x", "bert", "99.9", "MultiStream", None),
        ("Server/resnet50/logs", "resnet50", "", "Server", None),
        ("llama2-70b-interactive-99/Server/performance/run_1", "llama2-70b", "99",
         "Interactive", "performance"),
        ("resnet50/today", "resnet50", "", None, None),
        ("mine/today", "", "", None, None),
    ],
)  # fmt: skip
def test_folders_nested_anyhow_tell_what_they_are_named(
    tmp_path: Path,
    path: str,
    name: str,
    target: str,
    scenario: str | None,
    mode: str | None,
) -> None:
    """Benchmark, scenario and mode come from the nearest names that have them."""
    touch(tmp_path / path)
    place = found(tmp_path)[path]
    wanted = Scenario(scenario) if scenario else None

    assert (place.benchmark, place.target) == (name, target)
    assert wanted is place.scenario
    assert (Mode(mode) if mode else None) is place.mode


def test_a_submitters_own_model_is_mapped_or_unknown(tmp_path: Path) -> None:
    """The system's name is no benchmark, though a model's name may be in it."""
    home = tmp_path / "open" / "ACME"
    (home / "systems").mkdir(parents=True)
    for model in ("tiny", "odd"):
        run = home / "results" / "resnet50-box" / model / "Offline" / "performance"
        touch(run / "run_1")
    (home / "model_mapping.json").write_text('{"tiny": "bert-99"}')
    places = list(discover.find_runs(tmp_path))

    assert [place.benchmark for place in places] == ["", "bert"]
    assert [place.model for place in places] == ["odd", "bert-99"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("resnet50/Offline/performance/run_1", ("mlperf_log_detail.txt",)),
        ("resnet50/Offline/performance/run_1", ("mlperf_log_summary.txt",)),
        ("resnet50/Offline/performance/run_1", ("notes.txt",)),
        ("resnet50/Offline/performance", ("notes.txt",)),
        ("resnet50/Offline/accuracy", ("accuracy.txt",)),
        ("resnet50/Offline/accuracy", ("notes.txt",)),
        ("anywhere", ("mlperf_log_accuracy.json",)),
    ],
)
def test_a_runs_folder_without_its_logs_is_a_problem(
    tmp_path: Path, path: str, names: tuple[str, ...]
) -> None:
    """What lacks a log is named, never passed over."""
    touch(tmp_path / path, *names)
    problem = found(tmp_path)[path].problem

    assert problem is not None
    assert problem.found == "no such file"


def test_a_run_that_did_not_end_says_where_to_read_why(tmp_path: Path) -> None:
    """The watchdog's PARTIAL.json is pointed at."""
    touch(tmp_path / "bert-99-offline-null" / "performance", "PARTIAL.json")
    (place,) = discover.find_runs(tmp_path)

    assert place.problem is not None
    assert "PARTIAL.json says why" in place.problem.remedy


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent", "no such file"),
        ("empty", "no LoadGen log"),
        ("file.txt", "a file"),
        ("file.txt/below", "not a directory"),
    ],
)
def test_a_path_without_a_run_is_one_problem(
    tmp_path: Path, name: str, text: str
) -> None:
    """A gate that finds nothing must not pass."""
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "file.txt").touch()
    (place,) = discover.find_runs(tmp_path / name)

    assert place.problem is not None
    assert text in place.problem.found


def test_a_log_itself_stands_for_its_folder(tmp_path: Path) -> None:
    """Naming the detail log is naming the run."""
    folder = touch(tmp_path / "resnet50" / "run")
    (place,) = discover.find_runs(folder / LOGS[1])

    assert folder == place.path


def test_links_in_a_circle_end_and_give_each_run_once(tmp_path: Path) -> None:
    """``latest`` beside the reports it points at adds nothing."""
    run = touch(tmp_path / "one" / "resnet50-offline-null" / "performance")
    (tmp_path / "latest").symlink_to("one")
    (tmp_path / "one" / "up").symlink_to(tmp_path)
    (tmp_path / "one" / "self").symlink_to("self")

    assert [place.path for place in discover.find_runs(tmp_path)] == [run]


def test_a_pipe_instead_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    """Opening it would block for ever."""
    folder = touch(tmp_path / "run", LOGS[0])
    os.mkfifo(folder / LOGS[1])
    (place,) = discover.find_runs(tmp_path)

    assert place.problem is not None
    assert place.problem.found == "no regular file"


def test_an_unreadable_folder_is_a_problem_and_the_rest_is_found(
    tmp_path: Path,
) -> None:
    """Permission denied is said of that folder alone."""
    closed = touch(tmp_path / "a")
    touch(tmp_path / "resnet50" / "run")
    closed.chmod(0)
    tmp_path.chmod(0o755)
    # Under xdist there is one folder more that belongs to its owner alone.
    parents = [p for p in tmp_path.parents if p.stat().st_mode & 0o055 != 0o055]
    before = [parent.stat().st_mode for parent in parents]
    root = os.geteuid() == 0
    try:
        if root:
            for parent in parents:
                parent.chmod(0o755)
            os.seteuid(65534)
        places = found(tmp_path)
    finally:
        if root:
            os.seteuid(0)
            for parent, mode in zip(parents, before, strict=True):
                parent.chmod(mode)
        closed.chmod(0o755)

    assert places.keys() == {"a", "resnet50/run"}
    assert places["a"].problem is not None
    assert places["a"].problem.found == "permission denied"
    assert places["resnet50/run"].problem is None


def test_a_tree_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many folders the answer is to name a smaller part."""
    for number in range(6):
        touch(tmp_path / "resnet50" / str(number))
    monkeypatch.setattr(discover, "MOST_FOLDERS", 4)
    places = list(discover.find_runs(tmp_path))

    assert places[-1].problem is not None
    assert places[-1].problem.found == "more than 4 folders"


def test_code_documentation_and_ranging_runs_are_no_results(tmp_path: Path) -> None:
    """The checkers look into results and compliance alone."""
    home = submitter(tmp_path)
    run = home / "results" / "box" / "resnet50" / "Offline" / "performance"
    touch(run / "run_1")
    touch(run / "ranging")
    touch(home / "code" / "resnet50" / "sample")
    touch(home / "documentation" / "resnet50" / "Offline" / "accuracy")

    assert [place.path for place in discover.find_runs(tmp_path)] == [run / "run_1"]
    assert run / "ranging" in {p.path for p in discover.find_runs(run / "ranging")}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"system_type": 7}', "[" * 9999])
def test_a_damaged_system_description_tells_no_category(
    tmp_path: Path, text: str
) -> None:
    """What is wrong with it is the submission check's to say."""
    home = submitter(tmp_path)
    (home / "systems" / "box.json").write_text(text)
    run = home / "results" / "box" / "resnet50" / "Offline" / "performance" / "run_1"
    logs.performance(run, "Offline")
    (place,) = discover.find_runs(tmp_path)

    assert place.category == ""
    assert place.problem is None
