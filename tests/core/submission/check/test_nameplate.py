"""A system's nameplate power: the YAML file, or the field, that v6.1 reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import check_tree
from tests.support import trees
from tests.support.tree_changes import BERT

SYSTEMS = "closed/ACME/systems"
FILE = f"{SYSTEMS}/box_power.yaml"
GOOD = """\
My System:
- My Rack 1:
  - My Server 1:
    - Description: 'Optional description'
      Min PSUs Needed: 1
      PSUs:
      - Name: PSU 1
        PowerCapacityWatts: 1200
      - Name: PSU 2
        PowerCapacityWatts: 1200.5
  - My Switch 1:
    - Min PSUs needed: 1
      PSUs:
      - Name: PSU 1
"""
"""Components in the form of the checker's template; one without a capacity counts 0."""


@pytest.fixture(scope="module")
def original(powered: Path) -> Path:
    """bert-99, edge, v6.1, with power measured in Offline."""
    return powered


def find_problems(root: Path) -> list[Problem]:
    return list(check_tree(root))


@pytest.mark.parametrize("text", [None, GOOD, "Rack:\n- nothing that is known\n"])
def test_what_adds_up_has_no_problem(tree: Path, text: str | None) -> None:
    """The checker only warns where there is no file, and of no component it adds 0."""
    if text:
        trees.write(tree / FILE, text)

    assert find_problems(tree) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "an empty file"),
     ("My System: [1200\n", "'[1200'"),
     (GOOD.replace("Needed: 1", "Needed: one"), "Min PSUs Needed: one"),
     (GOOD.replace("Needed: 1", "Needed: 1.5"), "Min PSUs Needed: 1.5"),
     (GOOD.replace("1200.5", "1200 W"), "a power supply of 1200 W"),
     (GOOD.replace("1200.5", ""), "a power supply of None"),
     (GOOD.replace("- Name: PSU 1\n", "- 1200\n").replace(
         "        PowerCapacityWatts: 1200\n", ""), "a power supply of 1200"),
     ("Box:\n  PSUs: 2\n  Min PSUs Needed: 1\n", "PSUs: 2")],
)  # fmt: skip
def test_what_the_checker_cannot_add_up_is_refused(
    tree: Path, text: str, found: str
) -> None:
    """With the file and what stands there."""
    trees.write(tree / FILE, text)
    problems = find_problems(tree)

    assert {(p.path, p.rule) for p in problems} == {(FILE, "nameplate_power")}
    assert problems[0].found == found


@pytest.mark.parametrize("text", ["", GOOD.replace("1200.5", "1200 W")])
def test_the_descriptions_own_figure_is_taken_instead(tree: Path, text: str) -> None:
    """Then the file is not added up."""
    trees.write(tree / FILE, text)
    file = tree / SYSTEMS / "box.json"
    description = json.loads(file.read_text("utf-8"))
    trees.write(file, json.dumps(description | {"system_power_capacity": "2400"}))

    assert find_problems(tree) == []


@pytest.mark.parametrize(
    ("round_name", "text", "expected"),
    [("v6.1", "", []),
     ("v6.1", "My System: [1200\n", ["nameplate_power"]),
     ("v6.0", "My System: [1200\n", [])],
)  # fmt: skip
def test_without_power_the_file_has_to_be_yaml_alone(
    tmp_path: Path, round_name: str, text: str, expected: list[str]
) -> None:
    """v6.1's checker loads it for every system; older ones do not know it."""
    root = trees.make(tmp_path / "tree", round_name, BERT)
    trees.write(root / FILE, text)

    assert [p.rule for p in find_problems(root)] == expected
