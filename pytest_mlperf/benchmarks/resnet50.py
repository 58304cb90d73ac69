"""resnet50: ImageNet classification, top-1 accuracy.

Official: ResNet-50 v1.5 on the 50,000 validation pictures. Embedded: EfficientNet-Lite0
on views of labelled photographs that ship with the project.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mlperf.api.errors import Missing
from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import Model
from pytest_mlperf.benchmarks.imagenet.pictures import CROP
from pytest_mlperf.benchmarks.imagenet.pictures import INPUT
from pytest_mlperf.benchmarks.imagenet.pictures import ImageNetWorkload
from pytest_mlperf.benchmarks.imagenet.pictures import PictureFolder
from pytest_mlperf.benchmarks.imagenet.pictures import Pixels
from pytest_mlperf.benchmarks.imagenet.pictures import centre_crop
from pytest_mlperf.benchmarks.imagenet.pictures import read_rgb
from pytest_mlperf.benchmarks.imagenet.pictures import read_val_map
from pytest_mlperf.benchmarks.imagenet.pictures import resize
from pytest_mlperf.benchmarks.standins.synthetic import MODEL as NO_MODEL
from pytest_mlperf.benchmarks.standins.synthetic import SyntheticDataset

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded" / "resnet50"
MODEL = Path("models/ResNet50/resnet50_v1.onnx")
PICTURES = Path("data/imagenet")
VAL_MAPS = (PICTURES / "val_map.txt", Path("data_maps/imagenet/val_map.txt"))
CALIBRATION = (
    PICTURES / "cal_image_list_option_1.txt",
    Path("data_maps/imagenet/cal_map.txt"),
)
"""Lists of calibration pictures: the rules' own, or where NVIDIA's code has it."""
OFFICIAL_ACCURACY = 76.46
"""Top-1 of the fp32 reference, percent (rules of every round with resnet50)."""
OFFICIAL_PICTURES = 50_000
"""Pictures in ImageNet 2012's validation set, of 1,000 classes."""
CLASSES = 1000
PERFORMANCE_COUNT = 1024
"""``resnet50.*.performance_sample_count_override`` of mlperf.conf."""
VIEWS = 10
"""Views of each photograph: centre and corners, each as it is and mirrored."""

LAYOUT = f"""\
expected under the scratch folder:
  {MODEL}
      "resnet50-v1.5, onnx" of MLCommons' inference repository, folder
      vision/classification_and_detection: zenodo.org/record/4735647
  {PICTURES}/ILSVRC2012_val_00000001.JPEG and so on
      the 50,000 pictures of ImageNet 2012 validation: image-net.org, after registering
  {VAL_MAPS[0]} (or {VAL_MAPS[1]})
      a line '<file> <label 0-999>' for each picture: val.txt of Caffe's ILSVRC12
      auxiliary files, or data_maps of NVIDIA's MLPerf code
  {CALIBRATION[0]} (or {CALIBRATION[1]}), for int8 only
      calibration/ImageNet of MLCommons' inference repository
Or name no scratch folder: the embedded workload needs no download"""


def normalise(pixels: Pixels) -> NDArray[np.float32]:
    """Scale to what EfficientNet-Lite expects: (x - 127) / 128, C-contiguous."""
    # Of any other layout, every gather would first copy the whole dataset.
    scaled = pixels.astype(np.float32, order="C")
    scaled -= 127
    scaled /= 128
    return scaled


def views(pixels: Pixels) -> Pixels:
    """Cut the ten views of a photograph: uint8 [10, 3, 224, 224]."""
    bottom, right = pixels.shape[0] - CROP, pixels.shape[1] - CROP
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    cuts = [centre_crop(pixels)]
    cuts += [pixels[y : y + CROP, x : x + CROP] for y, x in corners]
    both = np.stack([*cuts, *(cut[:, ::-1] for cut in cuts)])
    return np.ascontiguousarray(both.transpose(0, 3, 1, 2))


def checked(folder: Path, entry: Mapping[str, Any]) -> Path:
    """Return an artefact's path once its content is the manifest's."""
    path = folder / str(entry["file"])
    if not path.is_file():
        raise Missing(
            f"{path} is not there, but is part of this package; install it again"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry["sha256"]:
        raise ValueError(
            f"{path} has sha256 {found}, but should have {entry['sha256']} "
            f"(manifest.json): its answers would not be comparable; install the "
            f"package again, or make all of it anew with scripts/make_resnet50.py"
        )
    return path


def embedded(folder: Path = EMBEDDED) -> ImageNetWorkload:
    """Open the stand-in: EfficientNet-Lite0 on ten views of each photograph.

    The views of one photograph are correlated: the samples measure whether an engine
    computes what the reference computes, not how good the model is.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    model = checked(folder, manifest["model"])
    used: dict[str, list[Path]] = {"evaluation": [], "calibration": []}
    labels: list[int] = []
    for entry in manifest["photos"]:
        used[entry["use"]].append(checked(folder, entry))
        if entry["use"] == "evaluation":
            labels += [entry["label"]] * VIEWS
    samples = np.concatenate([views(resize(read_rgb(p))) for p in used["evaluation"]])

    digest = hashlib.sha256(
        manifest["model"]["sha256"].encode()
        + samples.tobytes()
        + np.array(labels, "<i4").tobytes()
    )
    return ImageNetWorkload(
        kind="embedded",
        title=f"embedded: EfficientNet-Lite0, {VIEWS} views of each of "
        f"{len(used['evaluation'])} photographs",
        digest=digest.hexdigest(),
        model=Model(
            path=model,
            inputs=("input",),
            outputs=("logits",),
            calibration=partial(embedded_calibration, used["calibration"]),
        ),
        dataset=ArrayDataset({"input": normalise(samples)}, len(samples)),
        reference=manifest["reference"],
        labels=np.array(labels, np.int32),
    )


def embedded_calibration(paths: Sequence[Path]) -> Iterator[Batch]:
    """Yield the views of the calibration photographs, one photograph a batch."""
    for path in paths:
        yield {"input": normalise(views(resize(read_rgb(path))))}


def official(scratch: Path | None) -> ImageNetWorkload:
    """Open ResNet-50 v1.5 and the validation set in the scratch folder.

    The digest covers the model and the label map; the pictures themselves, 6 GB, are
    covered by name only.
    """
    if scratch is None:
        raise Missing(
            f"resnet50 official: no scratch folder is named; set MLPERF_SCRATCH_PATH "
            f"or --mlperf-scratch; {LAYOUT}"
        )
    val_map = next((scratch / m for m in VAL_MAPS if (scratch / m).is_file()), None)
    absent = [str(MODEL)] if not (scratch / MODEL).is_file() else []
    entries = read_val_map(val_map) if val_map else []
    if not entries:
        absent.append(str(VAL_MAPS[0]))
    files = [scratch / PICTURES / name for name, _ in entries]
    gone = [path for path in files if not path.is_file()]
    if gone:
        shown = ", ".join(str(path.relative_to(scratch)) for path in gone[:3])
        absent.append(f"{len(gone)} of {len(files)} pictures ({shown} ...)")
    if absent:
        raise Missing(
            f"resnet50 official: {'; '.join(absent)} not found in {scratch}; {LAYOUT}"
        )
    digest = hashlib.sha256(repr(entries).encode())
    with (scratch / MODEL).open("rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())

    return ImageNetWorkload(
        kind="official",
        title=f"ResNet-50 v1.5, ImageNet 2012 validation ({len(files):,} pictures)",
        digest=digest.hexdigest(),
        model=Model(
            path=scratch / MODEL,
            inputs=(INPUT,),
            outputs=("softmax_tensor:0",),
            calibration=partial(official_calibration, scratch),
        ),
        dataset=PictureFolder(files, PERFORMANCE_COUNT),
        reference={"acc": OFFICIAL_ACCURACY},
        labels=np.array([label for _, label in entries], np.int32),
    )


def official_calibration(scratch: Path) -> Iterator[Batch]:
    """Yield the pictures of the official calibration list, one a batch.

    They are validation pictures, as the rules have it.
    """
    listed = next((scratch / c for c in CALIBRATION if (scratch / c).is_file()), None)
    if listed is None:
        raise Missing(
            f"resnet50 official in int8: {CALIBRATION[0]} not found in {scratch}; "
            f"use fp32, or add it: {LAYOUT}"
        )
    names = [
        words[0] for line in listed.read_text().splitlines() if (words := line.split())
    ]
    pictures = PictureFolder([scratch / PICTURES / name for name in names], 1)
    for index in range(pictures.total):
        pictures.load([index])
        yield pictures.gather([index])
        pictures.unload([index])


def synthetic() -> ImageNetWorkload:
    """Open the labels of a rehearsal: as many as ImageNet's, drawn at random."""
    labels = np.random.default_rng(OFFICIAL_PICTURES).integers(
        0, CLASSES, OFFICIAL_PICTURES, np.int32
    )

    def scores(indices: NDArray[np.int64]) -> dict[str, Array]:
        certain = np.zeros((len(indices), CLASSES), np.float32)
        certain[np.arange(len(indices)), labels[indices]] = 1
        return {"scores": certain}

    return ImageNetWorkload(
        kind="synthetic",
        title=f"synthetic: {OFFICIAL_PICTURES:,} made-up labels of {CLASSES:,} classes",
        digest=hashlib.sha256(labels.tobytes()).hexdigest(),
        model=NO_MODEL,
        dataset=SyntheticDataset(OFFICIAL_PICTURES, PERFORMANCE_COUNT, scores),
        reference={"acc": 100.0},
        labels=labels,
    )


@dataclass(frozen=True, slots=True)
class ResNet50:
    """The benchmark as it registers itself."""

    name: str = "resnet50"
    aliases: tuple[str, ...] = ("resnet",)
    metric: str = "acc"

    def precision(self, target: str) -> str:  # noqa: ARG002
        """int8: within 99 % of fp32 (PROVENANCE.md has the figures), twice as fast."""
        return "int8"

    def workload(self, kind: str, scratch: Path | None) -> ImageNetWorkload:
        """Open ``official``, ``embedded`` or ``synthetic``.

        Raises ``Missing`` and ``ValueError``.
        """
        if kind == "embedded":
            return embedded()
        if kind == "official":
            return official(scratch)
        if kind == "generated":
            from pytest_mlperf.benchmarks.standins import generated

            return generated.resnet50()
        if kind == "synthetic":
            return synthetic()
        raise ValueError(
            f"{kind!r} is no kind of workload, but should be 'official', 'embedded', "
            "'generated' or 'synthetic'"
        )


RESNET50 = ResNet50()
