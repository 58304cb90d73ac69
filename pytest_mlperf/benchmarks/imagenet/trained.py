"""The benchmark's own architecture with weights of a scratch folder, on its pictures.

``scripts/train_resnet50.py`` makes such a folder: a stand-in whose layers are those of
ResNet-50, for engines whose kernels the embedded model does not reach.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload

INPUT = "pictures"
PICTURES = ("pictures.npy", "labels.npy", "calibration.npy")
"""int8 [n, 224, 224, 3] less the mean of 128; integers [n]; int8 as the first."""
MAKER = "train_resnet50.py"


def is_trained(folder: Path) -> bool:
    """Return whether a folder is one that the script makes."""
    return (folder / PICTURES[0]).is_file()


def open_trained(folder: Path) -> ImageNetWorkload:
    """Open the folder.

    Raises ``ValueError`` for a file that is not the one that its manifest records.
    """
    manifest = files.read_manifest(folder, MAKER)
    pictures, labels = (np.load(folder / name) for name in PICTURES[:2])
    hashes = json.dumps(manifest["sha256"], sort_keys=True).encode()
    return ImageNetWorkload(
        kind="embedded",
        title=f"embedded: {manifest['title']}",
        digest=hashlib.sha256(hashes).hexdigest(),
        model=ModelFile(
            path=folder / "model.onnx",
            inputs=(INPUT,),
            outputs=("scores",),
            calibration=partial(read_calibration, folder / PICTURES[2]),
        ),
        dataset=ArrayDataset({INPUT: pictures}, len(pictures)),
        reference=manifest["reference"],
        labels=labels.astype(np.int32),
    )


def read_calibration(path: Path) -> Iterator[Batch]:
    """Yield the pictures of the training that ranges are taken from, 16 a batch."""
    pictures = np.load(path)
    for start in range(0, len(pictures), 16):
        yield {INPUT: pictures[start : start + 16]}
