"""Changes of a submission tree, and the problems that the check then has."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_mlperf.core.submission.check import Problem
from pytest_mlperf.core.submission.check import check_tree
from tests.support import trees

BERT = {"bert": ("SingleStream", "Offline")}
HOME = "closed/ACME"
OFFLINE = f"{HOME}/results/box/bert-99/Offline"
RUN = f"{OFFLINE}/performance/run_1"
SYSTEM = f"{HOME}/systems/box.json"
Change = Callable[[Path], None]


def problems(root: Path, rule: str, **wanted: Any) -> list[Problem]:
    """Return the problems of one rule; all of them have a remedy."""
    found = list(check_tree(root, **wanted))
    assert all(problem.remedy for problem in found)
    return [problem for problem in found if problem.rule == rule]


def write(path: str, text: str = "text\n") -> Change:
    return lambda root: trees.write(root / path, text)


def remove(path: str) -> Change:
    def change(root: Path) -> None:
        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return change


def move(path: str, to: str) -> Change:
    def change(root: Path) -> None:
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / to)

    return change


def system(**fields: object) -> Change:
    """Return a change of fields of the system's description."""

    def change(root: Path) -> None:
        found = json.loads((root / SYSTEM).read_text("utf-8"))
        trees.write(root / SYSTEM, json.dumps(found | fields))

    return change


def logged(path: str, before: str, after: str) -> Change:
    """Return a change of a text in a file; the text has to be there."""

    def change(root: Path) -> None:
        text = (root / path).read_text("utf-8")
        assert before in text
        (root / path).write_text(text.replace(before, after), "utf-8")

    return change


def link(path: str, target: str) -> Change:
    return lambda root: (root / path).symlink_to(target)


def folder(path: str) -> Change:
    return lambda root: (root / path).mkdir(parents=True)


def big(path: str) -> Change:
    return lambda root: os.truncate(root / path, 51 * 1024 * 1024)


ACCURACY = f"{OFFLINE}/accuracy"
TEST01 = f"{OFFLINE}/TEST01"
