"""The official cases: pickles and npy files, whole, hashed and harmless."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pytest_mlperf.benchmarks.segmentation import kits19

NAMES = ("case_00000", "case_00003")


def make_case(number: int) -> list[np.ndarray]:
    """Return image and labels of 128 voxels a side, as preprocess.py saves them."""
    random = np.random.default_rng(number)
    image = np.zeros((1, 128, 128, 128), np.float32)
    image[0, 0] = random.standard_normal((128, 128))
    labels = np.zeros((1, 128, 128, 128), np.uint8)
    labels[0, 5, 5, 5] = 2
    return [image, labels]


def write_pickles(folder: Path, protocol: int = 4) -> dict[str, str]:
    """Write the cases; return name -> md5."""
    folder.mkdir(parents=True)
    hashes = {}
    for number, name in enumerate(NAMES):
        raw = pickle.dumps(make_case(number), protocol)
        (folder / f"{name}.pkl").write_bytes(raw)
        hashes[name] = hashlib.md5(raw).hexdigest()  # noqa: S324 - the reference's
    return hashes


def write_arrays(folder: Path) -> None:
    """Write the cases as npy files with their hashes."""
    folder.mkdir(parents=True)
    hashes = {}
    for number, name in enumerate(NAMES):
        files = {f"{name}.npy": 0, f"{name}.labels.npy": 1}
        for file, place in files.items():
            np.save(folder / file, make_case(number)[place])
            hashes[file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / kits19.HASHES).write_text(json.dumps(hashes))


@pytest.mark.parametrize("protocol", [4, 5])
def test_pickles_of_the_reference_are_read_exactly(
    tmp_path: Path, protocol: int
) -> None:
    """Whatever protocol wrote them: the same bits."""
    hashes = write_pickles(tmp_path / "cases", protocol)
    found = kits19.read_cases(tmp_path / "cases", hashes)

    assert [case.name for case in found] == list(NAMES)
    for number, case in enumerate(found):
        image, labels = make_case(number)
        assert case.image.dtype == np.float32
        assert np.array_equal(case.image, image)
        assert np.array_equal(case.labels, labels[0])


def test_npy_files_are_preferred_and_read_the_same(tmp_path: Path) -> None:
    """They need no unpickling; the pickles beside them are not looked at."""
    hashes = dict.fromkeys(NAMES, "")
    write_arrays(tmp_path / "cases")
    for name in NAMES:
        (tmp_path / "cases" / f"{name}.pkl").write_bytes(b"no pickle")
    found = kits19.read_cases(tmp_path / "cases", hashes)

    assert np.array_equal(found[1].image, make_case(1)[0])
    assert found[1].labels.shape == (128, 128, 128)


def test_a_case_of_another_hash_is_named_and_not_unpickled(tmp_path: Path) -> None:
    """Of any file but the official one nothing is known."""
    hashes = write_pickles(tmp_path / "cases")

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "called"),)

    raw = pickle.dumps(Attack())
    path = tmp_path / "cases" / "case_00003.pkl"
    path.write_bytes(raw)

    with pytest.raises(
        ValueError, match=r"case_00003\.pkl has md5 .*, but should have"
    ):
        kits19.read_cases(tmp_path / "cases", hashes)
    # Even under a hash that somebody gave it, nothing that it names is called.
    hashes["case_00003"] = hashlib.md5(raw).hexdigest()  # noqa: S324
    with pytest.raises(ValueError, match="mkdir, which is not part of an array"):
        kits19.read_cases(tmp_path / "cases", hashes)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("content", [[1, 2], {"image": 1}, [np.zeros(3), np.zeros(3)]])
def test_a_pickle_of_something_else_is_named(tmp_path: Path, content: object) -> None:
    """It is no case: two arrays, float32 and uint8."""
    path = tmp_path / "case.pkl"
    path.write_bytes(pickle.dumps(content))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324

    with pytest.raises(ValueError, match=r"case\.pkl is no preprocessed case"):
        kits19.read_pickle(path, md5)


def test_npy_files_that_are_damaged_absent_or_unknown_are_named(tmp_path: Path) -> None:
    """A byte that changed, a case that is not there, a file without a hash."""
    folder = tmp_path / "cases"
    hashes = dict.fromkeys(NAMES, "")
    write_arrays(folder)
    path = folder / "case_00003.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)

    with pytest.raises(ValueError, match=r"case_00003\.npy has sha256"):
        kits19.read_cases(folder, hashes)
    with pytest.raises(ValueError, match=r"no case_00005\.npy and no case_00005\.pkl"):
        kits19.read_cases(folder, {"case_00005": ""})
    (folder / kits19.HASHES).unlink()
    with pytest.raises(ValueError, match="has no hash in"):
        kits19.read_cases(folder, hashes)


def test_a_voxel_that_is_no_number_is_named_with_its_case(tmp_path: Path) -> None:
    """Found when the dataset is opened, before anything runs."""
    image, labels = make_case(0)
    image[0, 3, 4, 5] = np.inf
    path = tmp_path / "case_00000.pkl"
    path.write_bytes(pickle.dumps([image, labels]))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324

    with pytest.raises(ValueError, match=r"case_00000: voxel \(0, 3, 4, 5\) is inf"):
        kits19.read_cases(tmp_path, {"case_00000": md5})


def test_there_are_43_cases_in_the_reference_s_order() -> None:
    """Sample 42 is the copy of case_00185 that v2.1 added."""
    names = list(kits19.CASES)

    assert len(names) == 43
    assert names == sorted(names)
    assert names[-1] == "case_00400"
    assert all(len(md5) == 32 for md5 in kits19.CASES.values())
