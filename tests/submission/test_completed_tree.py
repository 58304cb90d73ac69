"""A tree that is there: completed, swapped, and left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission.runs import Run
from pytest_mlperf.submission import tree
from tests.support import sessions
from tests.support.submissions import BERT
from tests.support.submissions import ask_of
from tests.support.submissions import list_names
from tests.support.submissions import make_content
from tests.support.submissions import read_files


def test_a_second_session_adds_and_leaves_the_rest(
    tmp_path: Path, bert: list[Run]
) -> None:
    """resnet50 joins bert-99, of which no file changes."""
    ask = ask_of()
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    before = read_files(first)
    more = sessions.complete(tmp_path / "more", "v6.1", sessions.EDGE[:1])

    tree.write_tree(make_content(more, ask), first, first)

    after = read_files(first)
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
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    log = "closed/ACME/results/box/bert-99/{}/performance/run_1/mlperf_log_detail.txt"
    before = read_files(first)
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=slower)
    # What decides is read from both logs.
    written = tree.write_tree(make_content(again, ask), first, first)

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
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    row = first / "closed/ACME/results/box/bert-99/Offline"
    (row / "TEST01/verify_accuracy.txt").write_text("TEST FAIL\n")
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=1.1)

    written = tree.write_tree(make_content(again, ask), first, first)

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
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    here = first / "closed/ACME/results" / place
    elsewhere = tmp_path / "elsewhere"
    here.rename(elsewhere)
    here.symlink_to(elsewhere)
    before = read_files(elsewhere)
    again = sessions.complete(tmp_path / "again", "v6.1", BERT)
    for run in again:
        if run.mode == "performance":
            rule = sessions.rule_of("v6.1", "bert", "99", run.verdict.scenario)
            sessions.performance(run.folder, rule, slower=0.995)

    with pytest.raises(OSError, match=r"a link to .*; put what") as caught:
        tree.write_tree(make_content(again, ask), first, first)

    assert caught.value.filename == f"closed/ACME/results/{place}"
    assert before == read_files(elsewhere)
    assert here.is_symlink()


@pytest.mark.parametrize("place", ["documentation", "src", "systems"])
def test_a_link_where_a_document_is_to_be_written_is_refused(
    tmp_path: Path, bert: list[Run], place: str
) -> None:
    """A folder outside the tree is not written into."""
    first = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path
    here = first / "closed/ACME" / place
    here.rename(tmp_path / "elsewhere")
    here.symlink_to(tmp_path / "elsewhere")
    before = read_files(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="a link to"):
        tree.write_tree(make_content(bert, ask_of()), first, first)

    assert before == read_files(tmp_path / "elsewhere")


def test_a_fault_leaves_the_tree_as_it_was(tmp_path: Path, bert: list[Run]) -> None:
    """A file that cannot be read half way through changes nothing on disk."""
    ask = ask_of()
    first = tree.write_tree(make_content(bert, ask), tmp_path / "submission").path
    before = read_files(first)
    more = sessions.complete(tmp_path / "more", "v6.1", sessions.EDGE[:1])
    made = make_content(more, ask)
    (more[-1].folder / "user.conf").unlink()
    for run in more:
        (run.folder / "user.conf").unlink(missing_ok=True)

    with pytest.raises(OSError, match=r"user\.conf"):
        tree.write_tree(made, first, first)

    assert before == read_files(first)
    assert list_names(tmp_path) == ["more", "reports", "submission"]


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
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path

    assert tree.find_clash(root, ask_of()) == ""
    assert word in tree.find_clash(root, replace(ask_of(), **fields))


def test_a_tree_of_a_round_with_the_same_folders_is_not_completed(
    tmp_path: Path, bert: list[Run]
) -> None:
    """v6.0 and v6.1 lie the same way; the seeds of the logs tell them apart."""
    root = tree.write_tree(make_content(bert, ask_of()), tmp_path / "submission").path

    assert "the seeds of v6.1" in tree.find_clash(root, ask_of("v6.0"))


def test_a_stand_in_never_takes_the_place_of_the_official_model(
    tmp_path: Path,
) -> None:
    """However fast it is, both are in the tree then, each under its name."""
    ask = ask_of(division="open")
    rows = sessions.EDGE[:1]
    own = sessions.complete(tmp_path / "own", "v6.1", rows, labels=("embedded",))
    official = sessions.complete(tmp_path / "official", "v6.1", rows)
    root = tree.write_tree(make_content(official, ask), tmp_path / "submission").path
    before = read_files(root / "open/ACME/results/box/resnet50")

    tree.write_tree(make_content(own, ask), root, root)

    home = root / "open/ACME/results/box"
    assert read_files(home / "resnet50") == before
    assert list_names(home) == ["resnet50", "resnet50-embedded"]
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

    assert list_names(target) == ["theirs"]
    assert list_names(tmp_path) == ["old", "submission"]


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

    assert list_names(target) == ["mine"]
    assert list_names(tmp_path) == ["submission"]


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
    made = make_content(bert, ask_of())
    root = tree.write_tree(made, tmp_path / "there/submission").path
    link = tmp_path / "link"
    link.symlink_to(root)

    tree.write_tree(make_content(bert, ask_of()), link, link)

    assert link.is_symlink()
    assert list_names(root.parent) == ["submission"]
