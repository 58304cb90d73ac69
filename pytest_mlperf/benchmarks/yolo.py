"""yolo: YOLO11l, object detection in letterboxed 640 x 640 pictures, mAP on COCO.

Official: the pictures of COCO 2017's validation set whose licenses MLCommons accepts.
Embedded: a small detector on scenes with exact boxes, stretched and not letterboxed.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_mlperf.api.benchmark import Preprocessing
from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks.detection import coco
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.benchmark import Official
from pytest_mlperf.benchmarks.detection.export_yolo import CHECKPOINT
from pytest_mlperf.benchmarks.detection.export_yolo import MODEL
from pytest_mlperf.benchmarks.detection.export_yolo import PREPROCESSING
from pytest_mlperf.benchmarks.detection.outputs import read_yolo
from pytest_mlperf.benchmarks.detection.pictures import scale_to_one

FOLDERS = ("data/coco_safe", "coco_safe")
"""Beside NVIDIA's other datasets, and as the reference's README has it."""
DOWNLOADER = (
    "inference.mlcommons-storage.org by MLCommons' R2 downloader (mlcr get,dataset,"
    "mlperf-inference,yolo-coco2017-filtered,_mlc,_r2-downloader)"
)

OFFICIAL = Official(
    title="YOLO11l, MLPerf's subset of COCO 2017 validation",
    model=MODEL,
    annotations=Source(
        paths=tuple(f"{f}/annotations/instances_val2017.json" for f in FOLDERS),
        origin=f"YOLO-COCO2017-dataset of {DOWNLOADER}",
        terms="CC-BY-4.0",
    ),
    first_picture=Source(
        paths=tuple(f"{folder}/val2017_safe/000000560371.jpg" for folder in FOLDERS),
        origin="the same download, with the other 1,524 pictures",
        terms="CC BY, BY-SA, BY-ND, Flickr Commons or US government, each its own",
    ),
    calibration=coco.CALIBRATION,
    calibration_folders=coco.CALIBRATION_FOLDERS,
    pictures=1525,
    performance_count=64,
    side=640,
    input="images",
    outputs=("output0",),
    prepare=scale_to_one,
    find=read_yolo,
    letterboxes=True,
)


@dataclass(frozen=True, slots=True)
class YoloBenchmark(DetectionBenchmark):
    """A detector whose official model is exported from a checkpoint first."""

    preprocessing: Preprocessing = PREPROCESSING

    @property
    def sources(self) -> tuple[Source, ...]:
        return (CHECKPOINT, *self.official.sources)


YOLO = YoloBenchmark("yolo", ("yolo11l",), OFFICIAL)
