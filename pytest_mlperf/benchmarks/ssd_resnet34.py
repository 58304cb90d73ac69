"""ssd-large: SSD-ResNet34, object detection in 1200 x 1200 pictures, mAP on COCO.

Embedded: a small detector on scenes with exact boxes, at its largest size.
"""

from __future__ import annotations

import numpy as np

from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks.detection import coco
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.benchmark import Official
from pytest_mlperf.benchmarks.detection.outputs import read_ssd_resnet34
from pytest_mlperf.benchmarks.detection.pictures import Floats
from pytest_mlperf.benchmarks.imagenet.pictures import MEANS

NAME = "ssd_resnet34_mAP_20.2.onnx"


def subtract_means(pixels: Floats) -> Floats:
    """Subtract the channels' means: the reference's pre_process_coco_resnet34_tf."""
    return pixels - np.array(MEANS, np.float32)


OFFICIAL = Official(
    title="SSD-ResNet34, COCO 2017 validation",
    model=Source(
        paths=(f"models/SSDResNet34/{NAME}", f"models/{NAME}", NAME),
        origin="zenodo.org/record/4735664, 'ssd-resnet34 1200x1200, onnx, opset-11' of"
        f" {coco.INFERENCE}, folder vision/classification_and_detection",
        urls=(f"https://zenodo.org/record/4735664/files/{NAME}",),
    ),
    annotations=coco.ANNOTATIONS,
    first_picture=coco.FIRST_PICTURE,
    calibration=coco.CALIBRATION,
    calibration_folders=coco.CALIBRATION_FOLDERS,
    pictures=coco.PICTURES,
    performance_count=64,
    side=1200,
    input="image:0",
    outputs=("detection_bboxes:0", "detection_classes:0", "detection_scores:0"),
    prepare=subtract_means,
    find=read_ssd_resnet34,
    counts_classes=True,
)
SSD_RESNET34 = DetectionBenchmark("ssd-large", ("ssd-resnet34",), OFFICIAL)
