"""The tree itself: what is written where, completed, swapped, and left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission import documents
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.choose import choose
from pytest_mlperf.core.submission.documents import SubmissionSession
from pytest_mlperf.core.submission.request import SubmissionRequest
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.submission import checkers
from pytest_mlperf.submission import code
from pytest_mlperf.submission import tree
from tests.support import sessions

SESSION = SubmissionSession(
    ["suites", "-n", "8"], ["--mlperf-round=v6.1"], ["SYSTEM_NAME"]
)
BERT = (("bert", "99", ("SingleStream", "Offline")),)
CLONE = "MLPERF_INFERENCE"
"""Environment variable: a clone of mlcommons/inference, to be judged by it too."""


def ask_of(round_name: str = "v6.1", **fields: object) -> SubmissionRequest:
    ask = SubmissionRequest("ACME", round_name, "closed", "edge", "box")
    return replace(ask, **fields)  # type: ignore[arg-type]


def content(runs: list[Run], ask: SubmissionRequest, **fields: object) -> tree.Content:
    """Return what a tree of these runs is written from."""
    choice = choose(runs, ask)
    assert choice.refusals == ()
    made = tree.Content(ask, choice.entries, description(ask), SESSION)
    return replace(made, **fields)  # type: ignore[arg-type]


def description(ask: SubmissionRequest) -> str:
    """Return systems/box.json with a value in every field."""
    from pytest_mlperf.core.submission import description as described

    known = dict.fromkeys(described.FIELDS, "N/A") | {"status": "available"}
    known |= dict.fromkeys(described.COUNTS, "1") | {"system_name": "A box"}
    found = described.describe(
        known,
        round_name=ask.round,
        org=ask.org,
        division=ask.division,
        category=ask.category,
    )
    return described.to_json(found)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def bert(tmp_path: Path) -> list[Run]:
    return sessions.complete(tmp_path / "reports", "v6.1", BERT)


def test_a_v6_1_result_has_all_its_files_and_no_others(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Logs, measurements and compliance lie together; nothing of LoadGen's rest."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    assert set(files(row)) == {
        "README.md",
        "measurements.json",
        "user.conf",
        "accuracy/accuracy.txt",
        "accuracy/mlperf_log_accuracy.json",
        "accuracy/mlperf_log_detail.txt",
        "accuracy/mlperf_log_summary.txt",
        "performance/run_1/mlperf_log_detail.txt",
        "performance/run_1/mlperf_log_summary.txt",
        "TEST01/verify_accuracy.txt",
        "TEST01/verify_performance.txt",
        "TEST01/accuracy/accuracy.txt",
        "TEST01/accuracy/mlperf_log_accuracy.json",
        "TEST01/performance/run_1/mlperf_log_detail.txt",
        "TEST01/performance/run_1/mlperf_log_summary.txt",
    }


def test_a_v5_1_result_is_spread_and_its_code_stands_under_its_benchmark(
    tmp_path: Path,
) -> None:
    """measurements/ and compliance/ are folders of their own before v6.0."""
    ask = ask_of("v5.1")
    runs = sessions.complete(tmp_path / "reports", "v5.1", BERT)
    home = (
        tree.write_tree(content(runs, ask), tmp_path / "submission").path
        / "closed/ACME"
    )
    row = "box/bert-99/Offline"

    assert (home / f"measurements/{row}/box_Offline.json").is_file()
    assert (home / f"compliance/{row}/TEST01/verify_accuracy.txt").is_file()
    assert (home / "code/bert-99/README.md").is_file()
    assert (home / "code/pytest-mlperf/pytest_mlperf/plugin/hooks.py").is_file()
    assert {p.name for p in (home / f"results/{row}").iterdir()} == {
        "accuracy",
        "performance",
    }


def test_accuracy_logs_are_cut_and_known_by_the_hash_of_the_whole(
    tmp_path: Path, bert: list[Run]
) -> None:
    """The log in the tree fits, the whole stays where it was, and its hash is said."""
    written = tree.write_tree(content(bert, ask_of()), tmp_path / "submission")
    whole = next(Path(folder) for folder in written.full_logs if "offline" in folder)
    row = written.path / "closed/ACME/results/box/bert-99/Offline/accuracy"
    text = (row / "accuracy.txt").read_text()

    assert (row / "mlperf_log_accuracy.json").stat().st_size <= 10_240
    assert (whole / "mlperf_log_accuracy.json").stat().st_size > 100_000
    assert f"hash={written.full_logs[str(whole)]}" in text
    assert '{"exact_match": 83.7, "f1": 90.9}' in text


def test_the_tree_is_clean_for_git(tmp_path: Path, bert: list[Run]) -> None:
    """No dot files, blanks, caches, links, empty folders or large files."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path

    for path in root.rglob("*"):
        assert not path.name.startswith(".")
        assert " " not in path.name
        assert path.name != "__pycache__"
        assert not path.is_symlink()
        assert path.is_file() or any(path.iterdir())
        assert path.is_dir() or path.stat().st_size < 50 << 20
    assert "embedded" not in {p.name for p in root.rglob("*") if p.is_dir()}


def test_the_readme_repeats_the_run_in_one_session(
    tmp_path: Path, bert: list[Run]
) -> None:
    """An audit is compared with the runs beside it, so that they go together."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path
    text = (root / "closed/ACME/results/box/bert-99/Offline/README.md").read_text()

    assert "pytest --mlperf-round=v6.1 \\\n" in text
    for item in (
        "suites/test_performance.py::test_performance[bert-99-offline-onnxruntime]",
        "suites/test_accuracy.py::test_accuracy[bert-99-offline-onnxruntime]",
        "test_compliance[bert-99-offline-onnxruntime-TEST01]",
    ):
        assert item in text
    assert "pytest suites -n 8" in text
    assert "`SYSTEM_NAME`" in text


def test_a_rehearsal_says_so_in_every_file_that_allows_a_word(tmp_path: Path) -> None:
    """Nobody who opens one of them can take it for a result."""
    runs = sessions.complete(tmp_path / "reports", "v6.1", BERT, labels=("rehearsal",))
    ask = ask_of(rehearsal=True)
    root = tree.write_tree(content(runs, ask), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    for path in (
        row / "README.md",
        row / "user.conf",
        row / "measurements.json",
        root / "closed/ACME/documentation/calibration.md",
        root / "closed/ACME/src/pytest-mlperf/README.md",
    ):
        assert "REHEARSAL" in path.read_text(), path


def test_a_second_session_adds_and_leaves_the_rest(
    tmp_path: Path, bert: list[Run]
) -> None:
    """resnet50 joins bert-99, of which no file changes."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    before = files(first)
    more = sessions.complete(tmp_path / "more", "v6.1", sessions.EDGE[:1])

    tree.write_tree(content(more, ask), first, first)

    after = files(first)
    changed = {name for name, data in before.items() if after.get(name) != data}
    assert {"calibration.md", "sha256sums.txt"} >= {Path(n).name for n in changed}
    assert {("bert-99", "Offline"), ("resnet50", "MultiStream")} <= set(
        tree.list_rows(first, ask)
    )
    text = (first / "closed/ACME/documentation/calibration.md").read_text()
    assert text.count("| bert-99 | Offline |") == 1
    assert text.count("| resnet50 | Offline |") == 1


@pytest.mark.parametrize(("slower", "kept"), [(1.1, True), (0.995, False)])
def test_a_better_run_takes_the_place_of_an_older_one(
    tmp_path: Path, bert: list[Run], slower: float, kept: bool
) -> None:
    """And a worse one does not; either way the session says so."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    log = "closed/ACME/results/box/bert-99/{}/performance/run_1/mlperf_log_detail.txt"
    before = files(first)
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=slower)
    # What decides is read from both logs.
    written = tree.write_tree(content(again, ask), first, first)

    for scenario in ("SingleStream", "Offline"):
        path = log.format(scenario)
        assert kept == ((first / path).read_bytes() == before[path])
    said = " ".join(written.notes)
    assert ("run kept" in said) == kept
    assert ("run replaced" in said) != kept


def test_a_faster_run_with_a_problem_gives_way_to_one_without(
    tmp_path: Path, bert: list[Run]
) -> None:
    """A repetition repairs a damaged result, though it is slower; the rest stays."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    row = first / "closed/ACME/results/box/bert-99/Offline"
    (row / "TEST01/verify_accuracy.txt").write_text("TEST FAIL\n")
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=1.1)

    written = tree.write_tree(content(again, ask), first, first)

    assert (row / "TEST01/verify_accuracy.txt").read_text() == "TEST PASS\n"
    assert list(check.check_tree(first, "v6.1")) == []
    said = sorted(note for note in written.notes if note.startswith("bert-99"))
    assert "replaced, it has a problem" in said[0]
    assert "TEST01/verify_accuracy.txt" in said[0]
    assert "run kept" in said[1]


@pytest.mark.parametrize(
    "place", ["box", "box/bert-99", "box/bert-99/Offline", "box/bert-99/Offline/TEST01"]
)
def test_a_link_where_a_result_is_to_be_written_is_refused(
    tmp_path: Path, bert: list[Run], place: str
) -> None:
    """What it leads to is somebody else's, and is neither removed nor written over."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    here = first / "closed/ACME/results" / place
    elsewhere = tmp_path / "elsewhere"
    here.rename(elsewhere)
    here.symlink_to(elsewhere)
    before = files(elsewhere)
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=0.995)

    with pytest.raises(OSError, match=r"a link to .*; put what") as caught:
        tree.write_tree(content(again, ask), first, first)

    assert caught.value.filename == f"closed/ACME/results/{place}"
    assert before == files(elsewhere)
    assert here.is_symlink()


@pytest.mark.parametrize("place", ["documentation", "src", "systems"])
def test_a_link_where_a_document_is_to_be_written_is_refused(
    tmp_path: Path, bert: list[Run], place: str
) -> None:
    """A folder outside the tree is not written into."""
    first = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path
    here = first / "closed/ACME" / place
    here.rename(tmp_path / "elsewhere")
    here.symlink_to(tmp_path / "elsewhere")
    before = files(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="a link to"):
        tree.write_tree(content(bert, ask_of()), first, first)

    assert before == files(tmp_path / "elsewhere")


def test_a_fault_leaves_the_tree_as_it_was(tmp_path: Path, bert: list[Run]) -> None:
    """A file that cannot be read half way through changes nothing on disk."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    before = files(first)
    more = sessions.complete(tmp_path / "more", "v6.1", sessions.EDGE[:1])
    made = content(more, ask)
    (more[-1].folder / "user.conf").unlink()
    for run in more:
        (run.folder / "user.conf").unlink(missing_ok=True)

    with pytest.raises(OSError, match=r"user\.conf"):
        tree.write_tree(made, first, first)

    assert before == files(first)
    assert names(tmp_path) == ["more", "reports", "submission"]


def test_the_files_of_a_power_meter_are_placed(tmp_path: Path, bert: list[Run]) -> None:
    """power/ and ranging/ beside run_1, spl.txt in it, the settings where they go."""
    home = next(r.folder for r in bert if r.folder.parent.name.startswith("bert-99-o"))
    home = home.parent / "performance"
    for name in ("client.json", "client.log", "ptd_logs.txt", "server.json"):
        (home / "power").mkdir(exist_ok=True)
        (home / "power" / name).write_text("{}")
    (home / "ranging").mkdir()
    for name in ("mlperf_log_summary.txt", "mlperf_log_detail.txt"):
        shutil.copy(home / name, home / "ranging")
    for name in ("ranging/spl.txt", "spl.txt", "analyzer_table.md"):
        (home / name).write_text("x")

    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path
    row = root / "closed/ACME/results/box/bert-99/Offline"

    assert (row / "performance/power/ptd_logs.txt").is_file()
    assert (row / "performance/ranging/spl.txt").is_file()
    assert (row / "performance/run_1/spl.txt").is_file()
    assert (row / "analyzer_table.md").is_file()
    single = row.with_name("SingleStream")
    assert not (single / "performance/power").exists()


def test_an_open_entry_with_another_model_has_its_own_name(tmp_path: Path) -> None:
    """The folder is not the official one, and model_mapping.json says whose it is."""
    runs = sessions.complete(
        tmp_path / "reports", "v6.1", sessions.EDGE[:1], labels=("embedded",)
    )
    ask = ask_of(division="open")
    home = (
        tree.write_tree(content(runs, ask), tmp_path / "submission").path / "open/ACME"
    )

    assert (home / "results/box/resnet50-embedded/Offline/README.md").is_file()
    assert json.loads((home / "model_mapping.json").read_text()) == {
        "resnet50-embedded": "resnet"
    }


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"org": "Other"}, "has no closed/Other"),
        ({"division": "open"}, "has no open/ACME"),
        ({"round": "v5.1"}, "this session is for v5.1"),
        ({"category": "datacenter"}, "--mlperf-category"),
        ({"rehearsal": True}, "holds measured runs"),
    ],
)
def test_a_tree_of_something_else_is_not_completed(
    tmp_path: Path, bert: list[Run], fields: dict[str, Any], word: str
) -> None:
    """Round, organisation, division, category and rehearsal have to agree."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path

    assert tree.find_clash(root, ask_of()) == ""
    assert word in tree.find_clash(root, replace(ask_of(), **fields))


def test_a_tree_of_a_round_with_the_same_folders_is_not_completed(
    tmp_path: Path, bert: list[Run]
) -> None:
    """v6.0 and v6.1 lie the same way; the seeds of the logs tell them apart."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path

    assert "the seeds of v6.1" in tree.find_clash(root, ask_of("v6.0"))


def test_a_stand_in_never_takes_the_place_of_the_official_model(
    tmp_path: Path,
) -> None:
    """However fast it is, both are in the tree then, each under its name."""
    ask = ask_of(division="open")
    rows = sessions.EDGE[:1]
    own = sessions.complete(tmp_path / "own", "v6.1", rows, labels=("embedded",))
    official = sessions.complete(tmp_path / "official", "v6.1", rows)
    root = tree.write_tree(content(official, ask), tmp_path / "submission").path
    before = files(root / "open/ACME/results/box/resnet50")

    tree.write_tree(content(own, ask), root, root)

    assert before == files(root / "open/ACME/results/box/resnet50")
    assert names(root / "open/ACME/results/box") == ["resnet50", "resnet50-embedded"]
    assert {len(folders) for folders in tree.list_rows(root, ask).values()} == {2}


def test_a_tree_that_another_session_replaced_meanwhile_is_not_overwritten(
    tmp_path: Path,
) -> None:
    """Its results would be lost; the runs stay in the reports folder instead."""
    target = tmp_path / "submission"
    target.mkdir()

    def finish_while_another_does() -> None:
        with tree.replace_folder(target):
            target.rename(tmp_path / "old")
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(OSError, match="another session"):
        finish_while_another_does()

    assert names(target) == ["theirs"]
    assert names(tmp_path) == ["old", "submission"]


def test_ctrl_c_while_the_trees_are_swapped_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames there is no tree; it is put back."""
    target = tmp_path / "submission"
    target.mkdir()
    (target / "mine").touch()
    rename = Path.rename

    def interrupted(self: Path, to: Path) -> Path:
        if to == target and not self.name.endswith(tree.OLD):
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), tree.replace_folder(target):
        pass

    assert names(target) == ["mine"]
    assert names(tmp_path) == ["submission"]


def test_a_tree_that_a_killed_session_left_aside_is_named(tmp_path: Path) -> None:
    """The words say which folder to rename."""
    left = tmp_path / f".submission.42{tree.OLD}"
    left.mkdir()

    assert f"rename {left} to submission" in tree.find_clash(
        tmp_path / "submission", ask_of()
    )


def test_a_tree_that_a_link_names_is_replaced_and_not_the_link(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Who keeps trees elsewhere finds the completed one there."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "there/submission").path
    link = tmp_path / "link"
    link.symlink_to(root)

    tree.write_tree(content(bert, ask_of()), link, link)

    assert link.is_symlink()
    assert names(root.parent) == ["submission"]


def test_other_code_does_not_overwrite_what_ran_before(tmp_path: Path) -> None:
    """The same code is kept once, other code gets the next name."""
    first = code.write_code(tmp_path)

    assert first == code.write_code(tmp_path)
    (first / "conftest.py").write_text("changed")
    second = code.write_code(tmp_path)

    assert names(tmp_path) == ["pytest-mlperf", "pytest-mlperf-2"]
    assert (first / "conftest.py").read_text() == "changed"
    assert (second / "suites/test_performance.py").is_file()
    assert "numpy==" in (second / "requirements.txt").read_text()
    assert "pytest-mlperf" not in (second / "requirements.txt").read_text()


def test_the_source_of_an_engine_in_development_is_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who repeats the run needs the engine that nobody can install."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "theirs.py").write_text("MINE = 1\n")

    made = code.write_code(tmp_path / "src", engines=["theirs:MINE", "onnxruntime"])

    assert (made / "theirs.py").read_text() == "MINE = 1\n"


@pytest.mark.parametrize("inits", [["deep", "deep/er"], []])
def test_a_dotted_engine_keeps_the_path_it_is_imported_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inits: list[str]
) -> None:
    """The README's command finds it beside conftest.py, with what it imports."""
    home = tmp_path / "home"
    (home / "deep/er").mkdir(parents=True)
    for name in inits:
        (home / name / "__init__.py").touch()
    (home / "deep/er/engine.py").write_text("MINE = 1\n")
    monkeypatch.syspath_prepend(str(home))

    made = code.write_code(tmp_path / "src", engines=["deep.er.engine:MINE"])
    done = subprocess.run(
        [sys.executable, "-c", "from deep.er.engine import MINE; print(MINE)"],
        cwd=made, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout == "1\n", done.stderr


def test_code_out_of_a_wheel_has_a_pyproject_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel has none: name, version and needs are what is installed."""
    package = tmp_path / "site/pytest_mlperf"
    shutil.copytree(code.HOME, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("suites", "fixtures", "systems"):
        shutil.copytree(code.HOME.parent / name, package / name)
    shutil.copy(code.HOME.parent / "conftest.py", package / "suites")
    wanted = tomllib.loads((code.HOME.parent / "pyproject.toml").read_text())
    monkeypatch.setattr(code, "HOME", package)

    made = code.write_code(tmp_path / "src")
    found = tomllib.loads((made / "pyproject.toml").read_text())

    for name in ("name", "version", "requires-python", "scripts", "entry-points"):
        assert wanted["project"][name] == found["project"][name]
    assert wanted["build-system"] == found["build-system"]
    wheels = [x["tool"]["hatch"]["build"]["targets"]["wheel"] for x in (wanted, found)]
    assert wheels[0] == wheels[1]
    assert {need.partition(">")[0] for need in wanted["project"]["dependencies"]} == {
        need.partition(">")[0] for need in found["project"]["dependencies"]
    }
    for path in wanted["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]:
        assert (made / path).exists()


def test_a_description_that_is_kept_says_what_this_session_has_instead(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Software changes between sessions, and a person decides what the file says."""
    ask = ask_of()
    first = tree.write_tree(content(bert, ask), tmp_path / "submission").path
    other = json.loads(description(ask)) | {"framework": "onnxruntime 99"}

    made = content(bert, ask, description=json.dumps(other))
    [same] = said(tree.write_tree(content(bert, ask), first, first))
    [unlike] = said(tree.write_tree(made, first, first))

    assert same.endswith("systems/box.json: kept as it is")
    assert "framework is 'N/A' there and 'onnxruntime 99' here" in unlike
    assert "submit seal" in unlike


def said(written: tree.Written) -> list[str]:
    return [note for note in written.notes if "box.json" in note]


def test_the_readme_names_no_place_of_the_machine(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Folders of models, reports and clones are the submitter's business."""
    command = [
        "/home/me/clone/suites", "--mlperf-reports=/data/r", "--mlperf-checker", "/c/i",
        "--mlperf-cache=/fast", "--mlperf-scratch", "models", "--mlperf-batch=8",
        "--mlperf-engine-options=plan=/data/models/x",
        "/home/me/suites/test_accuracy.py::test_accuracy[a-b]", "--mlperf-tree=/data/t",
    ]  # fmt: skip
    shown = documents.hide_places(command, Path("/data/models"))
    made = content(bert, ask_of(), session=SubmissionSession(shown, []))
    root = tree.write_tree(made, tmp_path / "submission").path
    text = (root / "closed/ACME/results/box/bert-99/Offline/README.md").read_text()

    assert shown == [
        "suites", "--mlperf-scratch=$MLPERF_SCRATCH_PATH", "--mlperf-batch=8",
        "--mlperf-engine-options=plan=$MLPERF_SCRATCH_PATH/x",
        "test_accuracy.py::test_accuracy[a-b]",
    ]  # fmt: skip
    assert "pytest suites --mlperf-scratch=$MLPERF_SCRATCH_PATH --mlperf-b" in text


def test_the_seal_has_no_file_outside_the_tree(tmp_path: Path, bert: list[Run]) -> None:
    """A link that leaves it is a problem of its own, and none of the seal's."""
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path
    home = root / "closed/ACME"
    (tmp_path / "outside").write_text("secret")
    (home / "documentation/notes.txt").symlink_to(tmp_path / "outside")
    before = (home / seal.FILE).read_text()

    seal.write_seal(Listing.of(root), "closed/ACME")

    assert before == (home / seal.FILE).read_text()


STAND_IN = """
import argparse, pathlib
parser = argparse.ArgumentParser()
for name in ("input", "version", "csv"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
found = sorted(pathlib.Path(args.input).glob("*/*/results/*/*/*"))
pathlib.Path(args.csv).write_text("\\n".join(["head", *map(str, found)]))
print("[x ERROR] " * (not found) + "SUMMARY: submission looks OK")
"""


def test_the_official_checker_is_content_with_results_only(
    tmp_path: Path, bert: list[Run]
) -> None:
    """It calls an empty tree fine; here that is no success."""
    tools = tmp_path / "clone/tools/submission"
    tools.mkdir(parents=True)
    (tools / "submission_checker.py").write_text(STAND_IN)
    root = tree.write_tree(content(bert, ask_of()), tmp_path / "submission").path

    said, good = checkers.run_official(root, "v6.1", tmp_path / "clone")
    assert good
    assert said == ["official checker (v6.1): SUMMARY: submission looks OK; 2 results"]

    shutil.rmtree(root / "closed/ACME/results/box")
    _, good = checkers.run_official(root, "v6.1", tools)
    assert not good


def test_a_folder_without_a_checker_is_named(tmp_path: Path) -> None:
    """The words say what to give instead."""
    [said], good = checkers.run_official(tmp_path, "v6.1", tmp_path)

    assert not good
    assert str(tmp_path) in said
    assert "--mlperf-checker" in said


@pytest.mark.skipif(
    CLONE not in os.environ, reason=f"{CLONE} names no clone of mlcommons/inference"
)
@pytest.mark.parametrize("round_name", ["v5.1", "v6.1"])
def test_the_real_checker_accepts_the_tree(tmp_path: Path, round_name: str) -> None:
    """resnet50 and bert-99 of an edge system: five results, and it looks OK."""
    runs = sessions.complete(tmp_path / "reports", round_name)
    made = content(runs, ask_of(round_name))
    root = tree.write_tree(made, tmp_path / "submission").path

    said, good = checkers.run_official(root, round_name, Path(os.environ[CLONE]))

    assert good, said
    assert "submission looks OK" in said[-1]
    assert said[-1].endswith("5 results")


def on_device(run: Run) -> Run:
    """Return a run that started from the device, with its proof beside its logs."""
    (run.folder / "on_device.txt").write_text("granted\n")
    (run.folder / "on_device_diagram.png").write_bytes(b"a drawing")
    facts = replace(run.verdict.run, start_from_device=True)
    return replace(run, verdict=replace(run.verdict, run=facts))


def test_what_entitles_a_run_to_the_device_goes_with_it(
    tmp_path: Path, bert: list[Run]
) -> None:
    """Reckoning and drawing of the result; no other result has any."""
    runs = [on_device(r) if r.scenario.value == "Offline" else r for r in bert]
    root = tree.write_tree(content(runs, ask_of()), tmp_path / "submission").path
    home = root / "closed/ACME/documentation/on_device"

    assert files(home) == {
        "box/bert-99/Offline/on_device.txt": b"granted\n",
        "box/bert-99/Offline/on_device_diagram.png": b"a drawing",
    }


def test_runs_from_the_host_and_from_the_device_make_no_result_together(
    bert: list[Run],
) -> None:
    """An accuracy run that started elsewhere proves nothing of this one."""
    runs = [
        on_device(r) if r.mode == "performance" and r.scenario.value == "Offline" else r
        for r in bert
    ]
    choice = choose(runs, ask_of())

    assert [e.rule.scenario.value for e in choice.entries] == ["SingleStream"]
