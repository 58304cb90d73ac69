"""SSD-ResNet34: object detection in large images."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "ssd-large",
    # checker v2.0, model_mapping; LoadGen's model is the first
    aliases=(
        "ssd-resnet34",
        "ssd_resnet50_v1_fpn_1024x1024",
        "ssd_resnet101_v1_fpn_1024x1024",
        "ssd_resnet152_v1_fpn_1024x1024",
        "rcnn-resnet50-lowproposals-coco",
        "rcnn-inception-resnet-v2-lowproposals-coco",
        "rcnn-inception-v2-coco",
        "rcnn-nas-lowproposals-coco",
        "rcnn-resnet101-lowproposals-coco",
    ),
    checker_folders="ssd-resnet34",
    logged_answers=256,
    finds_objects=True,
    guide_in=Formula(4_320_000, "3 x 1200 x 1200"),
)
