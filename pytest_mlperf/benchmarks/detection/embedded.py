"""The stand-in of all detection benchmarks: a small detector at three sizes.

Its scenes are drawn shapes on photographs, with exact boxes; scripts/make_detector.py
makes both, and PROVENANCE.md beside them says of what.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.samples import Batch
from pytest_mlperf.api.workload import ArrayDataset
from pytest_mlperf.api.workload import ModelFile
from pytest_mlperf.benchmarks import files
from pytest_mlperf.benchmarks.detection import scores
from pytest_mlperf.benchmarks.detection.annotations import Annotations
from pytest_mlperf.benchmarks.detection.annotations import read_annotations
from pytest_mlperf.benchmarks.detection.boxes import Level
from pytest_mlperf.benchmarks.detection.boxes import make_anchors
from pytest_mlperf.benchmarks.detection.outputs import make_reader
from pytest_mlperf.benchmarks.detection.pictures import stretch
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload
from pytest_mlperf.benchmarks.imagenet.pictures import read_rgb

EMBEDDED = files.EMBEDDED / "detection"
CLASSES = ("disc", "ring", "square", "triangle", "star", "cross")
LEVELS = (
    Level(8, (20.0, 30.0)),
    Level(16, (44.0, 64.0)),
    Level(32, (92.0, 128.0)),
)
SIDES = {"ssd-small": 128, "retinanet": 192, "yolo": 192, "ssd-large": 256}
"""Benchmark -> side of the detector's input, in pixels."""
INPUT, OUTPUTS = "images", ("class_logits", "box_deltas")
CALIBRATION_BATCH = 4
SCRIPT = "make_detector.py"


def open_embedded(benchmark: str, folder: Path = EMBEDDED) -> DetectionWorkload:
    """Open the stand-in at the size of a benchmark.

    Raises ``ValueError`` for a file that is not the one that the manifest records.
    """
    scores.require_evaluator()
    side = SIDES[benchmark]
    manifest = json.loads((folder / "manifest.json").read_text())
    model = _check(folder, manifest, "detector.onnx")
    annotations, pictures = _open_scenes(folder, manifest, "evaluation")
    samples = prepare(pictures, side)
    digest = hashlib.sha256(manifest["files"]["detector.onnx"].encode())
    digest.update(samples.tobytes())
    digest.update(json.dumps(annotations.content, sort_keys=True).encode())
    return DetectionWorkload(
        kind="embedded",
        title=f"embedded: a detector of {len(CLASSES)} shapes at {side} x {side}, "
        f"{len(pictures)} scenes",
        digest=digest.hexdigest(),
        model=ModelFile(
            path=model,
            inputs=(INPUT,),
            outputs=OUTPUTS,
            calibration=partial(read_calibration, folder, side),
            keep_fp32=tuple(manifest["keep_fp32"]),
        ),
        dataset=ArrayDataset({INPUT: samples}, len(samples)),
        reference={"mAP": manifest["reference"][benchmark]},
        annotations=annotations,
        find=make_reader(make_anchors(side, LEVELS), len(CLASSES)),
    )


def prepare(paths: Sequence[Path], side: int) -> Array:
    """Return pictures as the detector takes them: float32 [n, 3, side, side], 0-255."""
    pictures = [stretch(np.asarray(read_rgb(path)), side) for path in paths]
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def read_calibration(folder: Path, side: int) -> Iterator[Batch]:
    """Yield the calibration scenes; none has a photograph of the evaluation."""
    manifest = json.loads((folder / "manifest.json").read_text())
    _, pictures = _open_scenes(folder, manifest, "calibration")
    for start in range(0, len(pictures), CALIBRATION_BATCH):
        yield {INPUT: prepare(pictures[start : start + CALIBRATION_BATCH], side)}


def _open_scenes(
    folder: Path, manifest: Mapping[str, Any], use: str
) -> tuple[Annotations, list[Path]]:
    annotations = read_annotations(_check(folder, manifest, f"{use}.json"))
    names = annotations.file_names
    return annotations, [_check(folder, manifest, f"{use}/{name}") for name in names]


def _check(folder: Path, manifest: Mapping[str, Any], name: str) -> Path:
    return files.check_embedded(folder / name, manifest["files"][name], SCRIPT)
