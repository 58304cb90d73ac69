"""ssd-small: SSD-MobileNet v1, object detection in 300 x 300 pictures, mAP on COCO.

Embedded: a small detector on scenes with exact boxes, at its smallest size.
"""

from __future__ import annotations

import numpy as np

from pytest_mlperf.api.samples import Array
from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks.detection import coco
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.benchmark import Official
from pytest_mlperf.benchmarks.detection.outputs import read_ssd_mobilenet
from pytest_mlperf.benchmarks.detection.pictures import Floats

NAME = "ssd_mobilenet_v1_coco_2018_01_28.onnx"


def cut_to_bytes(pixels: Floats) -> Array:
    """Drop fractions: the reference's pre_process_coco_mobilenet, uint8."""
    return pixels.astype(np.uint8)


OFFICIAL = Official(
    title="SSD-MobileNet v1, COCO 2017 validation",
    model=Source(
        paths=(f"models/SSDMobileNet/{NAME}", f"models/{NAME}", NAME),
        origin="zenodo.org/record/4735652, 'ssd-mobilenet 300x300, onnx, opset-11' of"
        f" {coco.INFERENCE}, folder vision/classification_and_detection",
        urls=(f"https://zenodo.org/record/4735652/files/{NAME}",),
    ),
    annotations=coco.ANNOTATIONS,
    first_picture=coco.FIRST_PICTURE,
    calibration=coco.CALIBRATION,
    calibration_folders=coco.CALIBRATION_FOLDERS,
    pictures=coco.PICTURES,
    performance_count=256,
    side=300,
    input="image_tensor:0",
    outputs=(
        "num_detections:0",
        "detection_boxes:0",
        "detection_scores:0",
        "detection_classes:0",
    ),
    prepare=cut_to_bytes,
    find=read_ssd_mobilenet,
)
SSD_MOBILENET = DetectionBenchmark("ssd-small", ("ssd-mobilenet",), OFFICIAL)
