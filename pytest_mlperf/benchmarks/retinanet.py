"""retinanet: object detection in 800 x 800 pictures, mAP on OpenImages.

Official: RetinaNet with a ResNeXt-50 backbone on MLPerf's subset of OpenImages v6, 264
classes. Embedded: a small detector on scenes with exact boxes.
"""

from __future__ import annotations

from pathlib import Path

from pytest_mlperf.api.sources import Source
from pytest_mlperf.benchmarks.detection.benchmark import DetectionBenchmark
from pytest_mlperf.benchmarks.detection.benchmark import Official
from pytest_mlperf.benchmarks.detection.outputs import RETINANET_SIDE
from pytest_mlperf.benchmarks.detection.outputs import read_retinanet
from pytest_mlperf.benchmarks.detection.pictures import scale_to_one
from pytest_mlperf.benchmarks.detection.workload import DetectionWorkload

FOLDERS = ("data/open-images-v6-mlperf", "open-images-v6-mlperf")
"""Of NVIDIA's scratch layout and of the reference's download script."""
INFERENCE = "MLCommons' inference repository"
TOOLS = f"{INFERENCE}, vision/classification_and_detection/tools"
NAME = "resnext50_32x4d_fpn.onnx"
FIRST = "0001eeaf4aed83f9.jpg"
"""OpenImages' first validation picture."""


OFFICIAL = Official(
    title="RetinaNet ResNeXt-50, MLPerf's subset of OpenImages v6",
    model=Source(
        paths=(f"models/retinanet-resnext50-32x4d/{NAME}", f"models/{NAME}", NAME),
        origin="zenodo.org/record/6617879, 'retinanet 800x800, onnx' of"
        f" {INFERENCE}, folder vision/classification_and_detection",
        urls=(f"https://zenodo.org/record/6617879/files/{NAME}",),
        md5="4544f4e56e0a4684215831cc937ea45c",
    ),
    annotations=Source(
        paths=tuple(f"{f}/annotations/openimages-mlperf.json" for f in FOLDERS),
        origin=f"openimages_mlperf.sh of {TOOLS}",
    ),
    first_picture=Source(
        paths=tuple(f"{folder}/validation/data/{FIRST}" for folder in FOLDERS),
        origin="the same script, with the other 24,780 pictures",
        terms="CC-BY-2.0, as its authors state",
    ),
    calibration=Source(
        paths=(
            f"{FOLDERS[0]}/openimages_cal_images_list.txt",
            "data_maps/open-images-v6-mlperf/cal_map.txt",
        ),
        origin=f"calibration/openimages of {INFERENCE}",
        use="int8 only",
    ),
    calibration_folders=tuple(
        Path(folder) / place
        for folder in FOLDERS
        for place in ("calibration/train/data", "calibration/data", "train/data")
    ),
    pictures=24_781,
    performance_count=64,
    side=RETINANET_SIDE,
    input="images",
    outputs=("boxes", "labels", "scores"),
    prepare=scale_to_one,
    find=read_retinanet,
)


def open_generated() -> DetectionWorkload:
    """Open the official architecture with made-up weights: performance only."""
    from pytest_mlperf.benchmarks.standins.generated_retinanet import open_retinanet

    return open_retinanet()


RETINANET = DetectionBenchmark(
    "retinanet", ("retinanet-resnext50",), OFFICIAL, open_generated
)
