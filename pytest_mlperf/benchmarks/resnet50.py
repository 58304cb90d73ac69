"""resnet50: ImageNet classification, top-1 accuracy.

Official: ResNet-50 v1.5 on the 50,000 validation pictures. Embedded: EfficientNet-Lite0
on views of labelled photographs that ship with the project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.sources import Source
from pytest_mlperf.api.sources import files_digest
from pytest_mlperf.api.sources import missing_files
from pytest_mlperf.api.sources import require_files
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.api.workload import read_each
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.imagenet import pictures
from pytest_mlperf.benchmarks.imagenet import trained
from pytest_mlperf.benchmarks.standins.synthetic import MODEL as NO_MODEL
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticDataset
from pytest_mlperf.core.rounds.rule import Rule

EMBEDDED = files.EMBEDDED / "resnet50"
PICTURES = Path("data/imagenet")
MODEL = Source(
    paths=("models/ResNet50/resnet50_v1.onnx",),
    origin="zenodo.org/record/4735647, 'resnet50-v1.5, onnx' of MLCommons' inference"
    " repository, folder vision/classification_and_detection",
    urls=("https://zenodo.org/record/4735647/files/resnet50_v1.onnx",),
)
VALIDATION = Source(
    paths=(f"{PICTURES}/ILSVRC2012_val_00000001.JPEG",),
    origin="image-net.org with the other 49,999 pictures of ImageNet 2012 validation",
    terms="after registration",
)
VAL_MAP = Source(
    paths=(f"{PICTURES}/val_map.txt", "data_maps/imagenet/val_map.txt"),
    origin="val.txt of Caffe's ILSVRC12 auxiliary files or data_maps of NVIDIA's"
    " MLPerf code, a line '<file> <label 0-999>' for each picture",
)
# The rules' own list, or the place where NVIDIA's code has it.
CALIBRATION = Source(
    paths=(f"{PICTURES}/cal_image_list_option_1.txt", "data_maps/imagenet/cal_map.txt"),
    origin="calibration/ImageNet of MLCommons' inference repository",
    use="int8 only",
)
SOURCES = (MODEL, VALIDATION, VAL_MAP, CALIBRATION)
OFFICIAL_PICTURES = 50_000
"""Pictures in ImageNet 2012's validation set, of 1,000 classes."""
CLASSES = 1000
PERFORMANCE_COUNT = 1024
"""``resnet50.*.performance_sample_count_override`` of mlperf.conf."""
VIEWS = 10
"""Views of each photograph: center and corners, each as it is and mirrored."""


def normalize(pixels: pictures.Pixels) -> NDArray[np.float32]:
    """Scale to what EfficientNet-Lite expects: (x - 127) / 128, C-contiguous."""
    # Of any other layout, every gather would first copy the whole dataset.
    scaled = pixels.astype(np.float32, order="C")
    scaled -= 127
    scaled /= 128
    return scaled


def cut_views(pixels: pictures.Pixels) -> pictures.Pixels:
    """Cut the ten views of a photograph: uint8 [10, 3, 224, 224]."""
    bottom, right = pixels.shape[0] - pictures.CROP, pixels.shape[1] - pictures.CROP
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    cuts = [pictures.center_crop(pixels)]
    cuts += [pixels[y : y + pictures.CROP, x : x + pictures.CROP] for y, x in corners]
    both = np.stack([*cuts, *(cut[:, ::-1] for cut in cuts)])
    return np.ascontiguousarray(both.transpose(0, 3, 1, 2))


def open_embedded(folder: Path = EMBEDDED) -> pictures.ImageNetWorkload:
    """Open the stand-in: EfficientNet-Lite0 on ten views of each photograph.

    The views of one photograph are correlated: the samples measure whether an engine
    computes what the reference computes, not how good the model is.
    """
    manifest = json.loads((folder / "manifest.json").read_text())

    def check(entry: dict[str, str]) -> Path:
        path = folder / entry["file"]
        return files.check_embedded(path, entry["sha256"], "make_resnet50.py")

    model = check(manifest["model"])
    used: dict[str, list[Path]] = {"evaluation": [], "calibration": []}
    labels: list[int] = []
    for entry in manifest["photos"]:
        used[entry["use"]].append(check(entry))
        if entry["use"] == "evaluation":
            labels += [entry["label"]] * VIEWS
    photos = used["evaluation"]
    samples = np.concatenate(
        [cut_views(pictures.resize(pictures.read_rgb(path))) for path in photos]
    )
    digest = hashlib.sha256(
        manifest["model"]["sha256"].encode()
        + samples.tobytes()
        + np.array(labels, "<i4").tobytes()
    )
    return pictures.ImageNetWorkload(
        kind="embedded",
        title=f"embedded: EfficientNet-Lite0, {VIEWS} views of each of "
        f"{len(photos)} photographs",
        digest=digest.hexdigest(),
        model=ModelFile(
            path=model,
            inputs=("input",),
            outputs=("logits",),
            calibration=partial(read_embedded_calibration, used["calibration"]),
        ),
        dataset=ArrayDataset({"input": normalize(samples)}, len(samples)),
        reference=manifest["reference"],
        labels=np.array(labels, np.int32),
    )


def read_embedded_calibration(paths: Sequence[Path]) -> Iterator[Batch]:
    """Yield the views of the calibration photographs, one photograph a batch."""
    for path in paths:
        yield {"input": normalize(cut_views(pictures.resize(pictures.read_rgb(path))))}


def open_official(scratch: Path | None) -> pictures.ImageNetWorkload:
    """Open ResNet-50 v1.5 and the validation set in the scratch folder.

    The digest covers the model and the label map; the pictures themselves, 6 GB, are
    covered by name only.
    """
    model, val_map = MODEL.find(scratch), VAL_MAP.find(scratch)
    entries = pictures.read_val_map(val_map) if val_map else []
    names = [str(PICTURES / name) for name, _ in entries]
    absent = [s.label for s in (MODEL, VAL_MAP) if s.find(scratch) is None]
    missing = [n for n in names if scratch and not (scratch / n).is_file()]
    if missing:
        examples = ", ".join(missing[:3])
        absent.append(f"{len(missing)} of {len(names)} pictures ({examples} ...)")
    if scratch is None or model is None or absent:
        raise missing_files("resnet50", absent, SOURCES, scratch, files.USE_EMBEDDED)
    return pictures.ImageNetWorkload(
        kind="official",
        title=f"ResNet-50 v1.5, ImageNet 2012 validation ({len(names):,} pictures)",
        digest=files_digest([model], repr(entries)),
        model=ModelFile(
            path=model,
            inputs=(pictures.INPUT,),
            outputs=("softmax_tensor:0",),
            calibration=partial(read_official_calibration, scratch),
        ),
        dataset=pictures.PictureFolder(
            [scratch / n for n in names], min(PERFORMANCE_COUNT, len(names))
        ),
        reference={},
        labels=np.array([label for _, label in entries], np.int32),
    )


def read_official_calibration(scratch: Path) -> Iterator[Batch]:
    """Return the pictures of the official calibration list, one a batch.

    They are validation pictures, as the rules have it.
    """
    (path,) = require_files("resnet50", [CALIBRATION], scratch, "choose fp32")
    names = [
        words[0] for line in path.read_text().splitlines() if (words := line.split())
    ]
    paths = [scratch / PICTURES / name for name in names]
    return read_each(pictures.PictureFolder(paths, 1))


def open_synthetic() -> pictures.ImageNetWorkload:
    """Open the labels of a rehearsal: as many as ImageNet's, drawn at random."""
    labels = np.random.default_rng(OFFICIAL_PICTURES).integers(
        0, CLASSES, OFFICIAL_PICTURES, np.int32
    )

    def scores(indices: NDArray[np.int64]) -> dict[str, Array]:
        certain = np.zeros((len(indices), CLASSES), np.float32)
        certain[np.arange(len(indices)), labels[indices]] = 1
        return {"scores": certain}

    return pictures.ImageNetWorkload(
        kind="synthetic",
        title=f"synthetic: {OFFICIAL_PICTURES:,} made-up labels of {CLASSES:,} classes",
        digest=hashlib.sha256(labels.tobytes()).hexdigest(),
        model=replace(NO_MODEL, outputs=("scores",)),
        dataset=SyntheticDataset(OFFICIAL_PICTURES, PERFORMANCE_COUNT, scores),
        reference={"acc": 100.0},
        labels=labels,
    )


@dataclass(frozen=True, slots=True)
class ResNet50Benchmark:
    """The benchmark as it registers itself."""

    name: str = "resnet50"
    aliases: tuple[str, ...] = ("resnet",)
    metric: str = "acc"
    takes: frozenset[str] = frozenset({"tensors"})
    rules: tuple[Rule, ...] = ()
    sources: tuple[Source, ...] = SOURCES
    rehearses: bool = True

    def precision(self, target: str) -> str:  # noqa: ARG002
        """Return int8: within 99 % of fp32 (see PROVENANCE.md), and twice as fast."""
        return "int8"

    def open_workload(
        self, kind: str, scratch: Path | None
    ) -> pictures.ImageNetWorkload:
        """Open the workload of a kind.

        Raises ``RequirementMissing`` for absent files or packages, ``ValueError`` for
        wrong files or another kind.
        """
        if kind == "embedded":
            folder = files.find_embedded(scratch, "resnet50")
            if trained.is_trained(folder):
                return trained.open_trained(folder)
            return open_embedded(folder)
        if kind == "official":
            return open_official(scratch)
        if kind == "generated":
            from pytest_mlperf.benchmarks.standins import generated

            return generated.open_resnet50()
        if kind == "synthetic":
            return open_synthetic()
        kinds = "official", "embedded", "generated", "synthetic"
        raise files.unknown_kind(self.name, kind, *kinds)


RESNET50 = ResNet50Benchmark()
