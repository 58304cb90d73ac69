"""KiTS19's NIfTI files to volumes, side by side and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.benchmarks.segmentation import kits19
from pytest_mlperf.benchmarks.segmentation import preprocess
from pytest_mlperf.benchmarks.segmentation.preprocess import Kits19Preprocessing
from pytest_mlperf.commands.scratch.preprocess import make_items

STEP = Kits19Preprocessing(("case_00185", "case_00400"))


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """One raw case; the other one is its copy."""
    nibabel = pytest.importorskip("nibabel")
    pytest.importorskip("scipy")
    folder = tmp_path / preprocess.RAW[0] / "case_00185"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    affine = np.diag([-8.0, -1.2, -1.2, 1.0])
    for name, values in {
        "imaging": random.integers(-500, 700, (18, 100, 100)).astype(np.int16),
        "segmentation": random.integers(0, 3, (18, 100, 100)).astype(np.uint8),
    }.items():
        image = nibabel.Nifti1Image(values, affine)
        nibabel.save(image, folder / f"{name}.nii.gz")
    return tmp_path


def test_cases_are_made_once_and_open(scratch: Path) -> None:
    """Resampled to 90 planes, padded to a window; a second call makes nothing."""
    shown: list[tuple[int, int | None, str]] = []
    first = make_items(STEP, scratch, lambda *state: shown.append(state))
    again = make_items(STEP, scratch, lambda *_: None)
    folder = scratch / kits19.FOLDERS[0]
    one, copy = kits19.read_cases(folder, dict.fromkeys(STEP.cases, ""))

    assert first == f"2 volumes in {folder} (2 of 2 made now)"
    assert again.endswith("(0 of 2 made now)")
    assert shown == [(0, 2, "items"), (1, 2, "items"), (2, 2, "items")]
    assert one.shape == (128, 128, 128)
    assert np.array_equal(one.image, copy.image)
    assert one.image.max() == pytest.approx((304 - 101) / 76.9, rel=0.05)
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_an_interrupted_session_makes_the_rest(scratch: Path) -> None:
    """An item is there when its image is, which is renamed last."""
    STEP.make(scratch, "case_00185")

    assert STEP.is_made(scratch, "case_00185")
    assert make_items(STEP, scratch, lambda *_: None).endswith("(1 of 2 made now)")


def test_what_is_absent_or_broken_is_named(scratch: Path) -> None:
    """Cases that were not downloaded, and a file that is no NIfTI."""
    with pytest.raises(RequirementMissing, match=r"1 of 2 cases \(case_00003"):
        Kits19Preprocessing(("case_00185", "case_00003")).list_items(scratch)
    path = scratch / preprocess.RAW[0] / "case_00185/segmentation.nii.gz"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"segmentation\.nii\.gz cannot be read"):
        make_items(STEP, scratch, lambda *_: None)
