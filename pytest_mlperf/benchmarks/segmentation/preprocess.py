"""KiTS19's NIfTI files to the volumes that are run: what preprocess.py does.

Resampled to one spacing, clipped and normalized, padded to a window at least, fitted
to windows, and written as npy files with their hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.errors import RequirementMissing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.segmentation import kits19
from pytest_mlperf.benchmarks.segmentation.volumes import LabeledVolume
from pytest_mlperf.benchmarks.segmentation.volumes import check_volume
from pytest_mlperf.benchmarks.segmentation.volumes import fit_windows
from pytest_mlperf.core.whole_file import write_whole

SPACING = (1.6, 1.2, 1.2)
"""Millimeters from voxel to voxel: depth, height, width."""
CLIP, MEAN, DEVIATION = (-79.0, 304.0), 101.0, 76.9
"""Hounsfield units: bounds, and what makes them mean 0 and deviation 1."""
PADDING = -2.2
RAW = ("data/KiTS19/kits19/data", "build/raw_data/kits19/data", "kits19/data")
"""Folder of the cases as the repository neheller/kits19 downloads them."""
COPIES = {"case_00400": "case_00185"}
"""The 43rd case is a copy, which v2.1 added."""
EXTRA = "pip install 'pytest-mlperf[segmentation]'"


def resample(volume: Array, spacing: Sequence[float], order: int) -> Array:
    """Return a volume at ``SPACING``: linear (order 1) or nearest (0)."""
    from scipy.ndimage import zoom

    if list(spacing) == list(SPACING):
        return volume
    factors = np.array(spacing) / np.array(SPACING)
    return np.asarray(
        zoom(
            volume, factors, order=order, mode="constant", cval=volume.min(),
            grid_mode=False,
        )
    )  # fmt: skip


def prepare_image(image: Array, labels: Array) -> tuple[Array, Array]:
    """Return the image normalized and both fitted: float32 and uint8 [1, d, h, w]."""
    image = (np.clip(image[None], *CLIP) - MEAN) / DEVIATION
    labels = labels[None]
    short = [max(0, kits19.SIDE - n) for n in labels.shape[1:]]
    pads = [(0, 0), *((n // 2, n - n // 2) for n in short)]
    image, labels = (np.pad(one, pads, mode="edge") for one in (image, labels))
    image = fit_windows(image, kits19.SIDE, PADDING).astype(np.float32)
    return image, fit_windows(labels, kits19.SIDE, 0).astype(np.uint8)


def read_nifti(path: Path) -> tuple[Array, list[float]]:
    """Return a NIfTI file's voxels, float64, and its spacing.

    Raises ``ValueError`` that names the file when it cannot be read.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        spacing: list[float] = image.header["pixdim"][1:4].tolist()
        return np.asarray(image.get_fdata()), spacing
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({error}); it should be a NIfTI file of KiTS19:"
            " download the case again"
        ) from error


@dataclass(frozen=True, slots=True)
class Kits19Preprocessing:
    """The 43 cases, each an item."""

    cases: tuple[str, ...] = tuple(kits19.CASES)

    def list_items(self, scratch: Path) -> Sequence[str]:
        files.require_package("nibabel", "NIfTI files cannot be read", EXTRA)
        files.require_package("scipy", "volumes cannot be resampled", EXTRA)
        missing = [name for name in self.cases if self._find_raw(scratch, name) is None]
        if missing:
            raise RequirementMissing(
                f"{len(missing)} of {len(self.cases)} cases ({missing[0]} ...) are not"
                f" below {scratch}; clone github.com/neheller/kits19 (CC BY-NC-SA 4.0),"
                " run its starter_code.get_imaging, and move the folder to"
                f" {scratch / RAW[0]}"
            )
        return self.cases

    def is_made(self, scratch: Path, item: str) -> bool:
        # The image is renamed last.
        return (scratch / kits19.FOLDERS[0] / f"{item}.npy").is_file()

    def make(self, scratch: Path, item: str) -> None:
        raw = self._find_raw(scratch, item)
        assert raw is not None, "list_items has looked"
        image, spacing = read_nifti(raw / "imaging.nii.gz")
        labels, _ = read_nifti(raw / "segmentation.nii.gz")
        if image.shape != labels.shape:
            raise ValueError(
                f"{raw}: the image has the shape {image.shape} and the segmentation"
                f" {labels.shape}, but should have the same; download the case again"
            )
        image, labels = prepare_image(
            resample(image.astype(np.float32), spacing, 1),
            resample(labels.astype(np.uint8), spacing, 0),
        )
        check_volume(LabeledVolume(item, image, labels[0]), kits19.SIDE, kits19.CLASSES)
        folder = scratch / kits19.FOLDERS[0]
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in ((f"{item}.labels.npy", labels), (f"{item}.npy", image)):
            files.save_array(folder / name, values)

    def finish(self, scratch: Path) -> str:
        folder = scratch / kits19.FOLDERS[0]
        hashes = {}
        for path in sorted(folder.glob("case_*.npy")):
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        write_whole(folder / kits19.HASHES, json.dumps(hashes, indent=1))
        return f"{len(hashes) // 2} volumes in {folder}"

    def _find_raw(self, scratch: Path, name: str) -> Path | None:
        names = (name, COPIES.get(name, name))
        folders = (scratch / place / one for place in RAW for one in names)
        return next((f for f in folders if (f / "imaging.nii.gz").is_file()), None)


PREPROCESSING = Kits19Preprocessing()
