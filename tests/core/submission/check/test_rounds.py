"""What differs between the rounds in the check of a tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import check_tree
from pytest_mlperf.core.submission.check import read_tree
from pytest_mlperf.core.submission.check import tree_problems
from pytest_mlperf.core.submission.description import describe
from tests.support import trees
from tests.support.tree_changes import BERT
from tests.support.tree_changes import HOME
from tests.support.tree_changes import SYSTEM
from tests.support.tree_changes import Change
from tests.support.tree_changes import big
from tests.support.tree_changes import folder
from tests.support.tree_changes import problems
from tests.support.tree_changes import system
from tests.support.tree_changes import write


def test_the_round_is_that_of_the_seeds(tmp_path: Path) -> None:
    """v5.1's logs in v5.1's folders need no --round; another round fails them."""
    root = trees.make(tmp_path / "t", "v5.1", BERT)

    assert read_tree(root)[0].round.name == "v5.1"
    assert list(check_tree(root)) == []
    assert problems(root, "seeds", round_name="v5.0")


@pytest.mark.parametrize(
    ("folder", "round_name"), [("measurements", "v5.1"), ("results", "v6.1")]
)
def test_without_seeds_the_folders_tell_the_round(
    tmp_path: Path, folder: str, round_name: str
) -> None:
    """measurements/ is a folder of its own before v6.0."""
    trees.write(tmp_path / HOME / folder / "box/bert-99/Offline/README.md", "text\n")

    assert read_tree(tmp_path)[0].round.name == round_name


def test_a_round_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The error lists the legal ones."""
    with pytest.raises(ValueError, match=r"v9\.9.*legal: v1\.0"):
        list(check_tree(tmp_path, "v9.9"))


OLD = [
    ("file_names", write(f"{HOME}/code/.hidden"), "v2.1", "v3.0"),
    ("file_size", big(f"{HOME}/code/resnet50/main.py"), "v2.1", "v3.0"),
    ("empty_folders", folder(f"{HOME}/code/empty"), "v2.1", "v3.0"),
    ("root", write("notes.txt"), "v3.0", "v3.1"),
    ("division", write("closed/notes.txt"), "v3.0", "v3.1"),
    ("system_fields", system(cooling=" "), "v3.0", "v3.1"),
    ("system_numbers", system(accelerators_per_node="N/A"), "v5.1", "v6.0"),
    ("systems_and_results", write(f"{HOME}/systems/b.json", "{}"), "v5.0", "v5.1"),
    ("systems_and_results", write(f"{HOME}/systems/b.json", "{}"), "v6.0", "v5.1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change", "without", "asks"),
    OLD,
    ids=[f"{o[0]}-{o[2]}-{o[3]}" for o in OLD],
)
def test_a_tree_is_held_to_the_rules_of_its_round(
    tmp_path: Path, rule: str, change: Change, without: str, asks: str
) -> None:
    """What passed review in one round is a problem in another."""
    fields = describe(trees.DESCRIPTION, round_name=asks, org="ACME",
                      division="closed", category="edge")  # fmt: skip
    trees.write(tmp_path / SYSTEM, json.dumps(fields))
    trees.write(tmp_path / f"{HOME}/results/box/resnet50/Offline/README.md", "text\n")
    trees.write(tmp_path / f"{HOME}/code/resnet50/main.py", "text\n")
    change(tmp_path)
    found = {
        name: [p.rule for p in tree_problems(read_tree(tmp_path, name)[0])].count(rule)
        for name in (without, asks)
    }

    assert found == {without: 0, asks: 1}


@pytest.mark.parametrize(("name", "places"), [("v5.1", 4), ("v6.0", 0)])
def test_since_v6_0_a_file_may_lie_beside_the_logs(
    tmp_path: Path, name: str, places: int
) -> None:
    """107 published results of v6.0 have one, metadata.json most of them."""
    root = trees.make(tmp_path / "t", name, BERT)
    folders = {
        path.parent for path in root.glob("*/*/results/**/mlperf_log_detail.txt")
    }
    for run in folders:
        trees.write(run / "metadata.json", "{}\n")
    found = [problem.path for problem in problems(root, "log_files")]

    assert folders
    assert len([path for path in found if "TEST" not in path]) == places


def test_v2_0_lets_any_file_lie_beside_test01s_answers(tmp_path: Path) -> None:
    """Its checker notes it, and v2.1's refuses it."""
    found = {}
    for name in ("v2.0", "v2.1"):
        root = trees.make(tmp_path / name, name, {"resnet50": ("Offline",)})
        own = "compliance/box/resnet50/Offline/TEST01/accuracy/notes.txt"
        trees.write(root / HOME / own, "text\n")
        found[name] = [problem.path for problem in problems(root, "log_files")]

    assert found == {"v2.0": [], "v2.1": [f"{HOME}/{own}"]}


def test_a_name_of_the_rounds_own_mapping_is_official(tmp_path: Path) -> None:
    """v2.0's checker takes ssd-mobilenet for ssd-small, in the closed division too."""
    path = tmp_path / "closed/ACME/results/box/ssd-mobilenet/Offline/performance/x"
    trees.write(path, "x")

    assert problems(tmp_path, "benchmark_name", round_name="v2.0") == []
    assert problems(tmp_path, "benchmark_name", round_name="v5.1") != []


def test_calibration_is_written_in_one_of_two_places(tmp_path: Path) -> None:
    """An empty file beside the written one is none; two empty ones are a problem."""
    root = trees.make(tmp_path / "t", "v5.1", BERT)
    trees.write(root / HOME / "calibration.md", "")
    one = problems(root, "calibration")
    trees.write(root / HOME / "documentation/calibration.md", "")
    none = problems(root, "calibration")

    assert one == []
    assert [problem.path for problem in none] == [f"{HOME}/calibration.md"]


def test_v5_1_wants_code_for_each_benchmark(tmp_path: Path) -> None:
    """A folder of its name, or a file that names the folder."""
    root = trees.make(tmp_path / "t", "v5.1", BERT)
    code = root / HOME / "code"
    (code / "bert-99").rename(code / "all")
    missing = problems(root, "code")
    trees.write(code / "bert-99", "all/\n")
    named = problems(root, "code")
    trees.write(code / "bert-99", "others\n")
    wrong = problems(root, "code")

    assert {p.path for p in missing} == {f"{HOME}/code/bert-99"}
    assert named == []
    assert {p.path for p in wrong} == {f"{HOME}/code/bert-99"}


def test_generated_examples_are_asked_for(tmp_path: Path) -> None:
    """stable-diffusion-xl of v5.1 shows ten images."""
    root = trees.make(tmp_path / "t", "v5.1", BERT)
    own = root / HOME / "results/box/stable-diffusion-xl/Offline/accuracy/images"
    own.mkdir(parents=True)
    missing = problems(root, "accuracy_examples")
    for problem in missing:
        trees.write(root / problem.path, "an image")

    assert len(missing) == 10
    assert (own / "4532.png").is_file()
    assert problems(root, "accuracy_examples") == []
