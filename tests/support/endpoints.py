"""Results that the client of MLPerf Endpoints made, and trees of them.

tests/data/endpoints/README.md says how they were made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_mlperf.core.submission.description import describe
from tests.support import trees

DATA = Path(__file__).parents[1] / "data/endpoints"
SUMMARY = "performance/result_summary.json"
SCORES = "accuracy/accuracy_results.json"
CONFIG = "config.yaml"
MODEL = "gpt-oss-120b"
HOME = "closed/ACME"
Change = Callable[[Path], None]


def make_result(folder: Path, kind: str = "server", accuracy: bool = True) -> Path:
    """Copy a real result, a folder of ``DATA``, and return the copy."""
    shutil.copytree(DATA / kind, folder)
    if accuracy:
        (folder / "accuracy").mkdir()
        shutil.copy(DATA / "accuracy.json", folder / SCORES)
    return folder


def make_tree(root: Path, scenario: str = "Server", model: str = MODEL) -> Path:
    """Write a closed submission of one real result; return the result's folder."""
    home = root / HOME
    described = describe(
        trees.DESCRIPTION,
        round_name="v6.1",
        org=trees.ORG,
        division="closed",
        category="datacenter",
    )
    trees.write(home / "systems/box.json", json.dumps(described, indent=1))
    trees.write(home / "documentation/calibration.md", "# Calibration\n\nNone.\n")
    trees.write(home / f"src/{model}/main.py", "print('hello')\n")
    kind = "offline" if scenario == "Offline" else "server"
    folder = make_result(home / "results/box" / model / scenario, kind)
    trees.write(folder / "README.md", "# How to run it\n")
    trees.write(folder / "measurements.json", json.dumps(trees.MEASUREMENTS))
    return folder


def edit(name: str, *keys: str | int, to: Any) -> Change:
    """Return a change of one value of a JSON file; ``...`` takes it out."""

    def change(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text("utf-8"))
        place = values
        for key in keys[:-1]:
            place = place[key]
        if to is ...:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to(place[keys[-1]]) if callable(to) else to
        path.write_text(json.dumps(values, indent=2), "utf-8")

    return change


def configure(before: str, after: str) -> Change:
    """Return a change of a text of the configuration; it has to be there."""

    def change(folder: Path) -> None:
        text = (folder / CONFIG).read_text("utf-8")
        assert before in text
        (folder / CONFIG).write_text(text.replace(before, after), "utf-8")

    return change


def overwrite(name: str, content: bytes) -> Change:
    """Return a change of a whole file."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def both(*changes: Change) -> Change:
    """Return several changes as one."""

    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change
