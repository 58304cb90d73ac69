"""SSD-MobileNet v1: object detection in small images."""

from __future__ import annotations

from pytest_mlperf.core.catalog.facts import BenchmarkFacts
from pytest_mlperf.core.catalog.facts import Formula

FACTS = BenchmarkFacts(
    "ssd-small",
    # checker v2.0, model_mapping; LoadGen's model is the first
    aliases=(
        "ssd-mobilenet",
        "ssd_mobilenet_v1_coco",
        "ssd_mobilenet_v1_fpn_640x640",
        "ssd_mobilenet_v1_quantized_coco",
        "ssd_mobilenet_v2_320x320",
        "ssd_mobilenet_v2_fpnlite_320x320",
        "ssd_mobilenet_v2_fpnlite_640x640",
        "ssd_resnet50_v1_fpn_640x640",
        "ssd_resnet101_v1_fpn_640x640",
        "ssd_resnet152_v1_fpn_640x640",
    ),
    # checker v2.0, get_mlperf_model
    checker_folders="ssd-mobilenet",
    guesses=(("ssdlite|ssdinception|yolo|ssdmobilenet|ssdresnet50|rcnn", ""),),
    logged_answers=1024,
    finds_objects=True,
    guide_in=Formula(270_000, "3 x 300 x 300"),
)
