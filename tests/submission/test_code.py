"""The code that ran, as a part of the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pytest_mlperf.submission import code
from tests.support.submissions import list_names


def test_other_code_does_not_overwrite_what_ran_before(tmp_path: Path) -> None:
    """The same code is kept once, other code gets the next name."""
    first = code.write_code(tmp_path)

    assert first == code.write_code(tmp_path)
    (first / "conftest.py").write_text("changed")
    second = code.write_code(tmp_path)

    assert list_names(tmp_path) == ["pytest-mlperf", "pytest-mlperf-2"]
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
