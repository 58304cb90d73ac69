"""Official files: found in any layout, and asked for by place, origin and terms."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import require_files

MODEL = Source(("models/a.onnx", "a.onnx"), "Zenodo record 1")
DATA = Source(
    ("data/b.json",), "example.org", 1000, use="int8 only", terms="after registration"
)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    return path


def test_the_first_place_that_has_the_file_wins(tmp_path: Path) -> None:
    """A second layout is looked in where the recommended one has no file."""
    second = write(tmp_path / "a.onnx")
    before = MODEL.find(tmp_path)
    first = write(tmp_path / "models" / "a.onnx")

    assert before == second
    assert MODEL.find(tmp_path) == first
    assert MODEL.find(None) is None


def test_all_absent_files_are_named_with_the_whole_layout(tmp_path: Path) -> None:
    """What is absent, then a line for each file, then the alternative."""
    write(tmp_path / "a.onnx")

    with pytest.raises(RequirementMissing) as caught:
        require_files("mine", (MODEL, DATA), tmp_path, "choose fp32")

    assert str(caught.value) == (
        f"mine official: data/b.json (1,000 samples) not found in {tmp_path}. Set"
        " MLPERF_SCRATCH_PATH or --mlperf-scratch to a folder with\n"
        "  models/a.onnx (or a.onnx) from Zenodo record 1\n"
        "  data/b.json from example.org, int8 only, after registration\n"
        "Or choose fp32."
    )


def test_one_file_is_asked_for_in_one_line() -> None:
    """Without a scratch folder the reason says so."""
    with pytest.raises(RequirementMissing) as caught:
        require_files("mine", (MODEL,), None)

    assert str(caught.value) == (
        "mine official: models/a.onnx not found because no scratch folder is named. Set"
        " MLPERF_SCRATCH_PATH or --mlperf-scratch to a folder with models/a.onnx (or"
        " a.onnx) from Zenodo record 1."
    )


def test_the_digest_follows_files_and_recipe(tmp_path: Path) -> None:
    """One file's bytes do not flow into the next one's."""
    paths = [write(tmp_path / "ab"), write(tmp_path / "c")]
    moved = [write(tmp_path / "a"), write(tmp_path / "bc")]

    assert len({files_digest(p, r) for p in (paths, moved) for r in ("", "x")}) == 4
    assert files_digest([]) == hashlib.sha256().hexdigest()
