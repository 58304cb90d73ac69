"""The official volumes: 43 preprocessed cases of KiTS19, as pickles or as npy files.

A pickle is read without calling anything that it names: names become inert records (see
``llm.pickled_frame``), and the arrays are made here from the bytes that are there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks.llm.pickled_frame import FrameUnpickler
from pytest_mlperf.benchmarks.llm.pickled_frame import Refused
from pytest_mlperf.benchmarks.llm.pickled_frame import explain_refusal
from pytest_mlperf.benchmarks.llm.pickled_frame import read_bytes
from pytest_mlperf.benchmarks.llm.pickled_frame import read_dtype
from pytest_mlperf.benchmarks.llm.pickled_frame import require
from pytest_mlperf.benchmarks.segmentation.volumes import LabeledVolume
from pytest_mlperf.benchmarks.segmentation.volumes import check_volume

SIDE, CLASSES = 128, 3
CASES: Mapping[str, str] = json.loads(
    Path(__file__).with_name("kits19.json").read_text()
)
"""Case -> md5 of its pickle, in the order of the sample indices: meta/
inference_cases.json and checksum_inference.json of the reference."""
FOLDERS = (
    "preprocessed_data/KiTS19/inference",
    "preprocessed_data/KiTS19/reference",
    "build/preprocessed_data",
    "preprocessed_data",
)
"""Where the cases are looked for: NVIDIA's scratch layout, then the reference's."""
HASHES = "sha256.json"
"""Beside npy files: name -> sha256, written with them."""
PLAIN = frozenset({"numpy", "_codecs", "builtins", "__builtin__"})


class VolumeUnpickler(FrameUnpickler):
    """Turns every name that a numpy array consists of into an inert record."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in PLAIN and not module.startswith(("numpy.core", "numpy._core")):
            raise Refused(f"it names {module}.{name}, which is not part of an array")
        return super().find_class(module, name)


def find_folder(scratch: Path | None, cases: Mapping[str, str] = CASES) -> Path | None:
    """Return the first folder that has the first case, in either form."""
    if scratch is None:
        return None
    first = next(iter(cases))
    found = (scratch / folder for folder in FOLDERS)
    return next((f for f in found if find_case(f, first) is not None), None)


def find_case(folder: Path, name: str) -> Path | None:
    """Return a case's npy file, or its pickle, or None."""
    files = (folder / f"{name}.npy", folder / f"{name}.pkl")
    return next((path for path in files if path.is_file()), None)


def read_cases(folder: Path, cases: Mapping[str, str] = CASES) -> list[LabeledVolume]:
    """Read, hash and check all cases, in as many threads as there are cores.

    Raises ``ValueError`` that names a case which is not the official one, has a voxel
    that is no number, or has the wrong shape.
    """
    from concurrent.futures import ThreadPoolExecutor

    hashes = folder / HASHES
    known = json.loads(hashes.read_text()) if hashes.is_file() else {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        read = partial(_read_case, folder, {**known}, dict(cases))
        return list(pool.map(read, cases))


def _read_case(
    folder: Path, hashes: dict[str, str], cases: dict[str, str], name: str
) -> LabeledVolume:
    path = find_case(folder, name)
    if path is None:
        raise ValueError(
            f"{folder} has no {name}.npy and no {name}.pkl, but should have all of"
            f" {len(cases)} cases, as it has others. Preprocess the dataset again."
        )
    if path.suffix == ".pkl":
        image, labels = read_pickle(path, cases[name])
    else:
        image = _read_npy(path, hashes)
        labels = _read_npy(path.with_suffix(".labels.npy"), hashes)
    case = LabeledVolume(name, image, labels.reshape(labels.shape[-3:]))
    try:
        check_volume(case, SIDE, CLASSES)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return case


def _read_npy(path: Path, hashes: Mapping[str, str]) -> Array:
    if path.name not in hashes:
        raise ValueError(
            f"{path} has no hash in {path.parent / HASHES}, which is written with the"
            " files, so that it cannot be told whether it is whole. Preprocess again."
        )
    _check_hash(path, hashes[path.name], "sha256")
    return np.asarray(np.load(path, allow_pickle=False))


def _check_hash(path: Path, required: str, kind: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, kind).hexdigest()
    if digest != required:
        raise ValueError(
            f"{path} has {kind} {digest}, but should have {required}: it is damaged or"
            " was made by other versions of numpy and scipy than the reference's."
            " Preprocess it again as the reference's Dockerfile does."
        )


def read_pickle(path: Path, md5: str) -> tuple[Array, Array]:
    """Return image and labels of a case: float32 and uint8 [1, depth, height, width].

    Raises ``ValueError`` for a file of another md5, before it is read as a pickle, and
    for a pickle that is not a list of two arrays.
    """
    _check_hash(path, md5, "md5")
    try:
        with path.open("rb") as file:
            image, labels = VolumeUnpickler(file).load()
        return _make_array(image, "<f4"), _make_array(labels, "|u1")
    except Exception as error:
        raise ValueError(
            f"{path} is no preprocessed case: {explain_refusal(error)}. It should be"
            " the list [image, labels] that the reference's preprocess.py pickles."
        ) from error


def _make_array(part: Any, dtype: str) -> Array:
    if require(part, "_reconstruct", "_frombuffer").name == "_frombuffer":
        data, kind, shape, order = part.args
        is_fortran = order == "F"
    else:
        _, shape, kind, is_fortran, data = part.state
    found = read_dtype(kind)
    if found.lstrip("<|=") != dtype.lstrip("<|"):
        raise Refused(f"an array of {found}, not {dtype}")
    flat = np.frombuffer(read_bytes(data), dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")
