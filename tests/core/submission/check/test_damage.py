"""Every file and every required field of a submission, removed and damaged in turn."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_mlperf.core.submission import check
from pytest_mlperf.core.submission import seal
from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check.listing import Listing
from pytest_mlperf.core.submission.check.measurements import FIELDS
from pytest_mlperf.core.submission.description import MEANINGFUL
from pytest_mlperf.core.submission.description import list_fields
from tests.support import trees

GARBAGE = bytes(range(256)) * 8
PROSE = (".md", "user.conf")
"""Files whose lost half no rule can know; their seal does."""
UNTOLD = {
    "generic_message",
    "get_sut_name_duration_ns",
    "requested_accuracy_sample_count_override",
}
"""Lines that no rule needs, and that not every LoadGen writes."""
Damage = Callable[[bytes], bytes | None]
DAMAGES: dict[str, Damage] = {
    "removed": lambda content: None,  # noqa: ARG005
    "empty": lambda content: b"",  # noqa: ARG005
    "cut": lambda content: content[: len(content) // 2],
    "garbage": lambda content: GARBAGE,  # noqa: ARG005
}


@pytest.fixture(scope="module", params=["v6.1", "v5.1"])
def tree(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A submission that nothing is wrong with: resnet50 and bert, with compliance."""
    name: str = request.param
    return trees.make(tmp_path_factory.mktemp("trees") / name, name)


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Give a file another content, or none, for a while."""
    kept = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(kept)


def found(root: Path, path: str, *, seal_only: bool = False) -> list[Problem]:
    """Return the problems that name a file, or the folder it was alone in.

    What ``check_tree`` says of the whole, less the results that the file is not of:
    they were looked at once, undamaged.
    """
    tree, problems = check.read_tree(root)
    problems += check.tree_problems(tree)
    for result in tree.results:
        own = f"/{result.system}/{result.folder}/{result.scenario_folder}/"
        if own in path and not seal_only:
            problems += check.result_problems(tree, result)
    assert all(problem.remedy for problem in problems)
    return [problem for problem in problems if path in str(problem)]


def files(tree: Path) -> list[str]:
    """Return the paths of a submitter's files."""
    home = tree / "closed/ACME"
    return sorted(
        p.relative_to(tree).as_posix() for p in home.rglob("*") if p.is_file()
    )


def test_an_undamaged_tree_has_no_problem(tree: Path) -> None:
    """What is found below is the damage's."""
    assert list(check.check_tree(tree)) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_found_by_the_rules(tree: Path, damage: str) -> None:
    """Without a seal: a problem names the file, and says what to do."""
    missed = []
    for path in files(tree):
        if path.endswith(".py") or (damage == "cut" and path.endswith(PROSE)):
            continue
        with replaced(tree / path, DAMAGES[damage]((tree / path).read_bytes())):
            if not found(tree, path):
                missed.append(path)

    assert missed == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_sealed_tree_is_found_whatever_it_is(
    tree: Path, tmp_path: Path, damage: str
) -> None:
    """Notes and sources too, and the seal itself."""
    root = tmp_path / tree.name
    shutil.copytree(tree, root)
    home = root / "closed/ACME"
    for readme in home.glob("*/box/*/*/README.md"):
        readme.write_text(f"Digests are in {seal.FILE}.\n", "utf-8")
    seal.write_seal(Listing.of(root), home.relative_to(root).as_posix())
    undamaged = list(check.check_tree(root))
    missed = []
    for path in files(root):
        with replaced(root / path, DAMAGES[damage]((root / path).read_bytes())):
            if not found(root, path, seal_only=True):
                missed.append(path)

    assert undamaged == []
    assert missed == []


def test_a_missing_or_empty_field_of_the_system_is_found(tree: Path) -> None:
    """The problem names the file and the field."""
    path = "closed/ACME/systems/box.json"
    good = json.loads((tree / path).read_text("utf-8"))
    missed = []
    for name in list_fields(tree.name, "closed"):
        removed = {key: value for key, value in good.items() if key != name}
        empties: tuple[object, ...] = ("", " ", 0, None, [])
        variants = [removed, *({**good, name: empty} for empty in empties)]
        for number, variant in enumerate(variants):
            if number and name not in MEANINGFUL:
                continue
            with replaced(tree / path, json.dumps(variant).encode()):
                problems = found(tree, path)
            if not any(name in str(problem) for problem in problems):
                missed.append((name, number))

    assert missed == []


def test_a_missing_or_empty_field_of_the_measurements_is_found(tree: Path) -> None:
    """The problem names the file and the field."""
    together = tree.name == "v6.1"
    top = "results" if together else "measurements"
    file = "measurements" if together else "box_Offline"
    path = f"closed/ACME/{top}/box/bert-99/Offline/{file}.json"
    good = json.loads((tree / path).read_text("utf-8"))
    missed = []
    for name in FIELDS:
        removed = {key: value for key, value in good.items() if key != name}
        for variant in (removed, good | {name: ""}, good | {name: None}):
            with replaced(tree / path, json.dumps(variant).encode()):
                problems = found(tree, path)
            if not any(name in str(problem) for problem in problems):
                missed.append((name, variant.get(name)))

    assert missed == []


def test_a_missing_or_wrong_line_of_a_log_is_found(tree: Path) -> None:
    """Whatever line is lost from a performance run's log, the run is no result."""
    path = "closed/ACME/results/box/bert-99/Offline/performance/run_1"
    path += "/mlperf_log_detail.txt"
    lines = (tree / path).read_bytes().splitlines(keepends=True)
    missed = []
    for number, line in enumerate(lines):
        rest = b"".join([*lines[:number], *lines[number + 1 :]])
        with replaced(tree / path, rest):
            problems = found(tree, path)
        if not problems:
            missed.append(json.loads(line.partition(b" ")[2])["key"])

    assert set(missed) <= UNTOLD


@pytest.mark.parametrize("damage", ["folder", "link", "fifo", "unreadable"])
def test_a_file_that_is_no_file_is_found_and_crashes_nothing(
    tree: Path, damage: str
) -> None:
    """A folder, a broken link, a pipe, or what nobody may read stands in its place."""
    missed = []
    for path in files(tree):
        if path.endswith(".py"):
            continue
        file = tree / path
        kept = file.read_bytes()
        file.unlink()
        if damage == "folder":
            file.mkdir()
        elif damage == "link":
            file.symlink_to("nowhere")
        elif damage == "fifo":
            os.mkfifo(file)
        else:
            file.symlink_to(file.name)
        try:
            problems = found(tree, path)
        finally:
            file.rmdir() if damage == "folder" else file.unlink()
            file.write_bytes(kept)
        if not problems:
            missed.append(path)

    assert missed == []
